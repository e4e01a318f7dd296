#!/usr/bin/env bash
# peft 0.21.2: an adapter is what differs from the base model, and the base model stays as it was; neither holds for a network with
# BatchNorm. All its parameters are frozen, but the running statistics move with every training batch. They are no parameters
# and are not saved, so the adapter that is loaded elsewhere is not the network that was judged, and `disable_adapter()` on the
# board that trained it gives neither the base nor the adapted network. Nothing is said.
#
#   trained on other light, change of the output: adapter saved and loaded 0.61 of its largest value, base by disable_adapter() 0.38;
#   with the norm in modules_to_save 0.0 and 0.0
#
# Answered by dance_ondevice/conditions/arrays.py: what a condition has of its own is statistics and affine parameters together.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'peft==0.21.2' \
  'transformers==5.24.0' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - "$folder/adapter" <<'PY'
import sys
from importlib.metadata import version

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn


def base():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()


def apart(one, other):
    return float((one - other).abs().max() / other.abs().max())


images = 3 * torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) + 1
seen = {}
for also in (None, ["1"]):
    network = get_peft_model(base(), LoraConfig(r=4, target_modules=["0", "3"], modules_to_save=also)).train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()
    network.eval()
    network.save_pretrained(sys.argv[1])
    with torch.no_grad():
        judged, right = network(images), base()(images)
        loaded = PeftModel.from_pretrained(base(), sys.argv[1]).eval()(images)
        with network.disable_adapter():
            disabled = network(images)
    seen[bool(also)] = apart(loaded, judged), apart(disabled, right)
    print("peft {}: modules_to_save {}: loaded {:.2f}, base by disable_adapter() {:.2f}".format(version("peft"), also, *seen[bool(also)]))
good = min(seen[False]) > 0.1 and max(seen[True]) < 1e-3
raise SystemExit(0 if good else "this has changed")
PY
