#!/usr/bin/env bash
# peft 0.21.2: the low-rank branch beside a Conv2d gets its kernel size, stride and padding, but neither its dilation nor its padding
# mode. Beside a dilated layer with padding="same" it looks at other pixels, beside one that reflects it pads with zeros; both train.
# `merge_and_unload`, which a board does before it exports, adds the branch to the weight, where dilation and padding mode do
# apply: the merged network is another one than was trained and judged, with no error. A dilated layer whose padding is a
# number, as in ASPP, fails at its first image.
#
#   change of the output by merging, of its largest value: plain 0.00, padding_mode="reflect" 0.22, dilation=2 with padding="same" 0.58;
#   dilation=2 with padding=2: RuntimeError
#
# Not used here: rounds train the layers themselves, and an exported file is compared with its model (daemon/commands/models/export.py).
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'peft==0.21.2' \
  'transformers==5.24.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import torch
from peft import LoraConfig, get_peft_model
from torch import nn


def change(**options):
    """How much merging a branch changes the output, as a share of its largest value."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 16, 3, **options))
    adapted = get_peft_model(network, LoraConfig(r=8, target_modules=["0"])).eval()
    for name, weight in adapted.named_parameters():
        if "lora" in name:
            nn.init.normal_(weight, std=0.1)
    image = torch.randn(2, 8, 15, 15)
    with torch.no_grad():
        before = adapted(image)
        after = adapted.merge_and_unload()(image)
    return float((after - before).abs().max() / before.abs().max())


plain = change(padding=1)
reflect = change(padding=1, padding_mode="reflect")
dilated = change(padding="same", dilation=2)
print(f"peft {version('peft')}: merging changes the output by: plain {plain:.2f}, reflect {reflect:.2f}, dilated {dilated:.2f}")
try:
    change(padding=2, dilation=2)
    numbered = "no error"
except RuntimeError as error:
    numbered = f"RuntimeError: {error}"
print(f"dilation=2 with padding=2: {numbered}")
good = plain < 1e-4 and reflect > 0.05 and dilated > 0.05 and numbered.startswith("RuntimeError")
raise SystemExit(0 if good else "this has changed")
PY
