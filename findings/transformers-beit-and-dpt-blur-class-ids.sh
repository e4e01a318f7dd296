#!/usr/bin/env bash
# transformers 5.24.0: image processors of segmentation networks take `segmentation_maps` beside the images and bring both to one size. The
# networks' classes are numbers, and those of Segformer, MobileViT and MobileNetV2 take the nearest pixel for them. BEiT's and DPT's
# pass the ids through the filter of the image, bicubic: along each edge between two classes stand ids that nobody drew, those between the two
# and, as the filter overshoots, beyond; around what is ignored, 255, dozens. They are in range, so that the loss takes them. With
# `do_reduce_labels` the array that was handed over is changed as well: its 0 is 255 afterwards, for whoever reads it next.
#
#   ids 0, 7, 18 and an ignored stripe of 255: Segformer 0 7 18 255; BEiT 30 and DPT 45 others, on 3.9 and 2.6 % of the pixels
#
# Answered by dance_ondevice/images/masks.py (masks are only ever taken by their nearest pixel). Seen with the processors for Pillow; those for torchvision
# have the same lines. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'transformers==5.24.0' \
  'pillow==12.0.0' 'numpy==2.2.6'
cd "$folder"
HF_HOME=$folder HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import transformers

IDS = [0, 7, 18, 255]
image = np.zeros((96, 128, 3), np.uint8)
mask = np.zeros((96, 128), np.uint8)
mask[:, 40:80], mask[:, 80:], mask[:10, 60:] = 7, 18, 255
seen = {}
for name in ("Segformer", "MobileViT", "MobileNetV2", "Beit", "DPT"):
    processor = getattr(transformers, f"{name}ImageProcessorPil")()
    labels = processor(images=image, segmentation_maps=mask.copy(), return_tensors="np")["labels"]
    seen[name] = len(set(np.unique(labels).tolist()) - set(IDS)), float(np.mean(~np.isin(labels, IDS)))
    print(f"{name}: ids that nobody drew: {seen[name][0]}, on {100 * seen[name][1]:.1f} % of the pixels")
handed = mask.copy()
transformers.SegformerImageProcessorPil(do_reduce_labels=True)(images=image, segmentation_maps=handed, return_tensors="np")
print(f"transformers {transformers.__version__}: the array that was handed over, after do_reduce_labels: {np.unique(handed).tolist()}")
good = (
    all(seen[name] == (0, 0.0) for name in ("Segformer", "MobileViT", "MobileNetV2"))
    and all(seen[name][0] > 10 and seen[name][1] > 0.02 for name in ("Beit", "DPT"))
    and np.unique(handed).tolist() == [7, 18, 255]
)
raise SystemExit(0 if good else "this has changed")
PY
