#!/usr/bin/env bash
# albumentations 2.0.8, kornia 0.9.0: a Resize that is given an image and its mask takes their pixels from different places. From 64
# to 8 pixels, the middle of the first one is at 3.5. albumentations (cv2.INTER_NEAREST) takes a mask from the corner, 0.0, all over
# the image; kornia takes the image from corner to corner, 0.0 to 63.0, and the mask from the middles, 4.0 to 60.0. So labels lie up
# to half an output pixel beside what they label, at the same places of each image, and edges and poles are learnt aside.
# Pillow, for one, takes both from the middles:
#
#   from 64 to 8, first and last pixel: albumentations image 3.5 59.5, mask 0.0 56.0; kornia image 0.0 63.0, mask 4.0 60.0;
#   Pillow image 4.0 60.0, mask 4.0 60.0
#
# `mask_interpolation=cv2.INTER_NEAREST_EXACT` and `align_corners=False` put it right.
# Answered by dance_ondevice/training/batches.py and daemon/curation/labels.py (INTER_NEAREST_EXACT).
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'numpy==2.2.6' \
    'kornia==0.9.0' 'albumentations==2.0.8' 'pillow==12.0.0'
NO_ALBUMENTATIONS_UPDATE=1 "$folder/venv/bin/python" -W ignore - <<'PY'
import albumentations
import cv2
import kornia
import numpy as np
import PIL
import torch
from kornia.augmentation import AugmentationSequential, Resize
from PIL import Image

FROM, TO = 64, 8
# Each pixel's value is its column, so that what comes out says where it was taken from.
mask = np.arange(FROM, dtype=np.uint8)[None].repeat(FROM, 0)
image = mask[..., None].repeat(3, -1).astype(np.float32)


def ends(pixels):
    return float(pixels[TO // 2, 0]), float(pixels[TO // 2, -1])


found = albumentations.Resize(TO, TO, interpolation=cv2.INTER_AREA)(image=image, mask=mask)
exact = albumentations.Resize(TO, TO, interpolation=cv2.INTER_AREA, mask_interpolation=cv2.INTER_NEAREST_EXACT)
held = torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(mask).float()[None, None]
both = AugmentationSequential(Resize((TO, TO)), data_keys=["input", "mask"])(*held)
middles = AugmentationSequential(Resize((TO, TO), align_corners=False), data_keys=["input", "mask"])(*held)
small = [Image.fromarray(mask).resize((TO, TO), how) for how in (Image.Resampling.BOX, Image.Resampling.NEAREST)]
seen = {
    "albumentations": (ends(found["image"][..., 0]), ends(found["mask"])),
    "kornia": tuple(ends(each[0, 0].numpy()) for each in both),
    "Pillow": tuple(ends(np.array(each, np.float32)) for each in small),
}
told = "; ".join(f"{name} image {a[0]:.1f} {a[1]:.1f}, mask {b[0]:.1f} {b[1]:.1f}" for name, (a, b) in seen.items())
print(f"albumentations {albumentations.__version__}, kornia {kornia.__version__}, Pillow {PIL.__version__}: from {FROM} to {TO}, "
      f"first and last pixel: {told}")
print("put right:", ends(exact(image=image, mask=mask)["mask"]), [ends(each[0, 0].numpy()) for each in middles])
shifts = {name: (b[0] - a[0], b[1] - a[1]) for name, (a, b) in seen.items()}
expected = {"albumentations": (-3.5, -3.5), "kornia": (4, -3), "Pillow": (0, 0)}
raise SystemExit(0 if all(np.allclose(shifts[name], expected[name], atol=0.1) for name in expected) else "this has changed")
PY
