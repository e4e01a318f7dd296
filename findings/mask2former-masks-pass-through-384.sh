#!/usr/bin/env bash
# transformers 5.24.0: `Mask2FormerImageProcessor.post_process_semantic_segmentation` brings the network's masks to 384 x 384, whatever the
# image and the processor's size are, before it brings them to `target_sizes`. A Cityscapes model (1024 x 2048) gives masks of 256 x 512: a
# quarter of its columns is taken away and put back. A pole one column wide of them, four pixels of the image, is in the result or not, by the
# place where it stands; MaskFormer's, from which it is derived, shows every one. Without `target_sizes` the answer is 384 x 384 for every
# image.
#
#   a pole of one column, at 128 places of 512: found in the image: Mask2Former 64, MaskFormer 128
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'transformers==5.24.0' \
  'pillow==12.0.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version
from types import SimpleNamespace

import torch
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.maskformer.image_processing_pil_maskformer import MaskFormerImageProcessorPil

PLACES = range(128, 256)
classes = torch.tensor([[[9.0, -9, -9], [-9, 9, -9]]])  # the first query is the road, the second the pole; the last class is "none"
found = {}
for kind in (Mask2FormerImageProcessorPil, MaskFormerImageProcessorPil):
    processor, seen = kind(), 0
    for place in PLACES:
        masks = torch.stack([torch.full((64, 512), 8.0), torch.full((64, 512), -8.0)])[None]
        masks[0, 0, :, place], masks[0, 1, :, place] = -8, 8
        outputs = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
        (answer,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[(256, 2048)])
        seen += bool((answer == 1).any())
    (bare,) = processor.post_process_semantic_segmentation(outputs)
    found[kind.__name__] = seen, tuple(bare.shape)
print(f"transformers {version('transformers')}: a pole of one column at {len(PLACES)} places: found, size without target_sizes: {found}")
one, other = found.values()
raise SystemExit(0 if one[1] == (384, 384) and one[0] == 64 and other == (128, (64, 512)) else "this has changed")
PY
