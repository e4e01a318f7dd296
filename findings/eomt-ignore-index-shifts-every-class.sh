#!/usr/bin/env bash
# transformers 5.24.0: `ignore_index=255` says of a mask which of its ids is no class. To EoMT's processor it says something else too: every
# id goes down by one, 255 becomes 254, a class with a mask of its own, and 0, the first class (road, in most lists), is what is ignored. In
# MaskFormer and Mask2Former, from which its arguments are taken, that is a word of its own, `do_reduce_labels`, which EoMT takes and passes
# over. Training runs and learns all classes under their neighbours' ids. Without `ignore_index` the ids are right, and 255 is a class.
#
#   ids 0, 1, 2, 255 with ignore_index=255: EoMT 0 (1 in the file), 1 (2), 254 (255); Mask2Former 0, 1, 2
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'transformers==5.24.0' \
  'pillow==12.0.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

mask = np.array([0, 1, 2, 255], np.uint8).repeat(8)[None].repeat(32, 0)
image = np.zeros((32, 32, 3), np.uint8)
seen = []
for kind in (EomtImageProcessorPil, Mask2FormerImageProcessorPil):
    for more in ({"ignore_index": 255}, {"ignore_index": 255, "do_reduce_labels": True}, {}):
        read = kind(do_resize=False, **more)(images=[image], segmentation_maps=[mask], return_tensors="pt")
        places = [int(mask[each.numpy() > 0][0]) for each in read["mask_labels"][0]]
        seen.append(dict(zip(read["class_labels"][0].tolist(), places, strict=True)))
        print(f"transformers {version('transformers')} {kind.__name__} {more}: class: id in the file {seen[-1]}")
moved, kept = {0: 1, 1: 2, 254: 255}, {0: 0, 1: 1, 2: 2}
good = seen == [moved, moved, {**kept, 255: 255}, kept, moved, {**kept, 255: 255}]
raise SystemExit(0 if good else "this has changed")
PY
