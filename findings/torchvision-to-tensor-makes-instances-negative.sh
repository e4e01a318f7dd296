#!/usr/bin/env bash
# torchvision 0.29.1, pillow 12.0.0: a PNG of 16 bits is opened by Pillow as "I;16" since its release 10.3, where it was "I" (32 bits) in
# 10.2. `to_tensor`, and so `ToTensor()`, takes "I;16" for signed numbers: what is above 32767 comes out negative. Cityscapes writes instances
# as class * 1000 + number: cars (26001) are right, and bicycles (33 and a number) and depths or disparities beyond the half are not. A test
# with few classes passes. `pil_to_tensor`, `tv_tensors.Mask`, `decode_image` of the same package and v2's `to_image` give 33005. So a new
# Pillow changes what an old loader reads.
#
#   26001, 33005: to_tensor 26001, -32531; pil_to_tensor, to_image, decode_image 26001, 33005
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.14.1' 'torchvision==0.29.1' \
  'pillow==12.0.0' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import PIL
import torchvision
from PIL import Image
from torchvision.io import decode_image
from torchvision.transforms import functional as v1
from torchvision.transforms.v2 import functional as v2

ids = [26001, 33005]
Image.fromarray(np.array([ids], np.uint16)).save("instanceIds.png")
mask = Image.open("instanceIds.png")
seen = {
    "to_tensor": v1.to_tensor(mask).flatten().tolist(),
    "pil_to_tensor": v1.pil_to_tensor(mask).flatten().tolist(),
    "v2 to_image": v2.to_image(mask).flatten().tolist(),
    "decode_image": decode_image("instanceIds.png", mode="UNCHANGED").flatten().tolist(),
}
print(f"torchvision {torchvision.__version__}, pillow {PIL.__version__} ({mask.mode}): of {ids}: {seen}")
wrong = seen.pop("to_tensor")
raise SystemExit(0 if wrong == [26001, 33005 - 65536] and all(each == ids for each in seen.values()) else "this has changed")
PY
