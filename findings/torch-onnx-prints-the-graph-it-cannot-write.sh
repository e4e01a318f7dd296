#!/usr/bin/env bash
# torch 2.13.0: `torch.onnx.export(dynamo=False, verbose=False)` of a network with an operator that ONNX lacks raises, as it should, and
# before that prints the whole graph, each layer with its sizes and the path of the source that called it, to standard output: hundreds of
# lines for a real network, in the log of a service and into whatever reads a program's output as JSON. `verbose` makes no difference: the
# exporter asks whether its log was on by naming a function without calling it, which is always true. `logging` does not stop it, as it
# is no part of that, and switching the log off before (torch._C._jit_set_onnx_log_enabled) does not either.
#
#   lines of one convolution and that operator on standard output: verbose=False 13, with the log switched off before 13; on standard error 0
#
# Answered by dance_ondevice/runtime/formats.py (`_graph_unprinted`). Needs python3 and a network. Ends with status 1 if it behaves otherwise.
# On x86, TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} 'torch==2.13.0' 'onnx==1.23.2' \
  'onnxscript==0.7.2' 'numpy==2.2.6'
cat >"$folder/export.py" <<'PY'
import io
import logging
import sys
import warnings

import torch

warnings.simplefilter("ignore")
logging.disable()


class Network(torch.nn.Module):
    """Its singular values have no operator in ONNX."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return torch.linalg.svdvals(self.layer(x))


if sys.argv[1:] == ["off"]:
    torch._C._jit_set_onnx_log_enabled(False)
image = torch.zeros(1, 3, 8, 8)
try:
    torch.onnx.export(Network(), (image,), io.BytesIO(), dynamo=False, verbose=False)
except torch.onnx.errors.UnsupportedOperatorError:
    raise SystemExit(0)
raise SystemExit("it was exported")
PY
seen=""
for how in quiet off; do
  "$folder/venv/bin/python" "$folder/export.py" $how >"$folder/$how" 2>"$folder/errors"
  echo "$how: $(wc -l <"$folder/$how") lines on standard output, $(wc -l <"$folder/errors") on standard error, first: $(head -c 60 "$folder/$how")"
  grep -q '^Torch IR graph at exception: graph(%input' "$folder/$how" && grep -q 'aten::linalg_svdvals' "$folder/$how" || seen="$seen $how"
done
test -z "$seen" || {
  echo "this has changed: nothing printed for$seen"
  exit 1
}
