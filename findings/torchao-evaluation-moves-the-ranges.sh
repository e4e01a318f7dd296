#!/usr/bin/env bash
# torchao 0.18.0: a network that `prepare_qat_pt2e` made ready for int8 and `move_exported_model_to_eval` put into evaluation goes on
# measuring: its observers follow every image that it is shown, validation and test too, with no gradient needed. BatchNorm and
# dropout are still, the scales are not. So an evaluation between two epochs takes part in the training, the order of evaluation
# sets changes the result, and what is exported after the test is another network than was tested. Eager
# `torch.ao.quantization` does the same. `disable_observer` before, `enable_observer` after keep it as it is.
#
#   change of the same image's output by evaluating 10 batches of other light: 0.05 of its largest value; with observers off 0.00
#
# Not used here: rounds train in float, and an exported file is compared with its model (daemon/commands/models/export.py).
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'torchao==0.18.0' \
  'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - 2>"$folder/log" <<'PY' || { tail -n 20 "$folder/log" >&2; exit 1; }
import logging
from importlib.metadata import version

import torch
from torch import nn

logging.disable(logging.CRITICAL)
from torchao.quantization.pt2e import disable_observer, move_exported_model_to_eval  # noqa: E402
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e  # noqa: E402
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (  # noqa: E402
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)


def change(observe):
    """How much evaluating other images changes what the network gives for one, as a share of its largest value."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    image = torch.randn(4, 3, 8, 8)
    exported = torch.export.export(network.train(), (image,), strict=True).module()
    quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config(is_qat=True))
    prepared = prepare_qat_pt2e(exported, quantizer)
    for _ in range(20):
        prepared(torch.randn(4, 3, 8, 8))
    move_exported_model_to_eval(prepared)
    if not observe:
        prepared.apply(disable_observer)
    with torch.no_grad():
        before = prepared(image)
        for _ in range(10):
            prepared(8 * torch.randn(4, 3, 8, 8))
        after = prepared(image)
    return float((after - before).abs().max() / before.abs().max())


by_default, off = change(True), change(False)
print(f"torchao {version('torchao')}, torch {version('torch')}: change of an image's output by evaluating other images: {by_default:.2f} "
      f"of its largest value, with observers off {off:.2f}")
raise SystemExit(0 if by_default > 0.01 and off == 0 else "this has changed")
PY
