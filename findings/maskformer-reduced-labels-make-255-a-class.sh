#!/usr/bin/env bash
# transformers 5.24.0: `do_reduce_labels=True` is for data sets whose 0 is no class (ADE20K, many exports): each id goes down by one, and 0
# becomes `ignore_index`. The processors of MaskFormer and Mask2Former take 255 down too: what was ignored in the file, 255, is class 254,
# gets a mask of its own beside the classes and is what the network is to find; the only pixels that are ignored are those of 0. Segformer,
# BEiT and DPT, with the same word, keep 255. Masks in which nothing is 255, as ADE20K's own, show none of it. Segformer's processor for
# Pillow puts 255 for 0 into the caller's own array: one that is kept in memory is another mask in the next epoch.
#
#   ids 0, 1, 2, 255: MaskFormer and Mask2Former learn 0, 1, 254; Segformer 0, 1 and 255, which it ignores, and the array given to it is 1, 2, 255
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
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.maskformer.image_processing_pil_maskformer import MaskFormerImageProcessorPil
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

mask = np.array([0, 1, 2, 255], np.uint8).repeat(8)[None].repeat(32, 0)
image = np.zeros((32, 32, 3), np.uint8)
seen = {}
for kind in (MaskFormerImageProcessorPil, Mask2FormerImageProcessorPil):
    processor = kind(do_resize=False, ignore_index=255, do_reduce_labels=True)
    read = processor(images=[image], segmentation_maps=[mask], return_tensors="pt")
    seen[kind.__name__] = read["class_labels"][0].tolist()
    assert len(read["mask_labels"][0]) == len(seen[kind.__name__])
read = SegformerImageProcessorPil(do_resize=False, do_reduce_labels=True)(images=[image], segmentation_maps=[mask], return_tensors="pt")
seen["SegformerImageProcessorPil"] = np.unique(read["labels"][0]).tolist()
seen["the array that Segformer's was given"] = np.unique(mask).tolist()
print(f"transformers {version('transformers')}, ids [0, 1, 2, 255], 255 is to be ignored: {seen}")
good = list(seen.values()) == [[0, 1, 254], [0, 1, 254], [0, 1, 255], [1, 2, 255]]
raise SystemExit(0 if good else "this has changed")
PY
