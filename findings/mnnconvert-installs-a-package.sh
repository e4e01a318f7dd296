#!/usr/bin/env bash
# MNN 3.6.1: `mnnconvert` and `mnnquant`, the tools of its Python package, run `pip install -U` twice, of a package that is not among its
# dependencies, at every start while that cannot be imported, and once it can they ask a server of their maker for credentials of a log
# service before the conversion begins. No option and no variable turns it off; without a network it goes on as if nothing was. Whoever
# converts a model on a board with pinned packages has other packages afterwards, of whatever release is the newest, and a build that
# is to be offline is not. The `pip` is the first in PATH, which need not be that of the environment. `import MNN` does none of this.
#
#   pip after import MNN: not called; after one conversion: 2 times "install -U aliyun-log-python-sdk", after two 4; with that package: 0 times,
#   and 1 request for credentials
#
# Nothing here depends on it. pip, the package and the network are stand-ins that write down what is asked of them. Needs python3 and a network.
# Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'MNN==3.6.1' 'onnx==1.23.2' 'numpy==2.2.6'
mkdir -p "$folder/bin" "$folder/package/aliyun/log"
cat >"$folder/bin/pip" <<'SH'
#!/bin/sh
echo "$*" >>"$CALLS"
SH
chmod +x "$folder/bin/pip"
echo 'LogClient = PutLogsRequest = None' >"$folder/package/aliyun/log/__init__.py"
echo 'LogItem = None' >"$folder/package/aliyun/log/logitem.py"
cat >"$folder/package/sitecustomize.py" <<'PY'
import os
import urllib.request


def refuse(request, *args, **kwargs):
    """Write down that a request was made, and answer as without a network."""
    with open(os.environ["REQUESTS"], "a", encoding="utf-8") as file:
        file.write(f"{request.get_method()} to a server of {'.'.join(request.host.split('.')[-2:])}\n")
    raise OSError("no network")


urllib.request.urlopen = refuse
PY
cd "$folder"
export CALLS="$folder/calls" REQUESTS="$folder/requests" PATH="$folder/bin:$PATH" PYTHONPATH=
touch "$CALLS" "$REQUESTS"
"$folder/venv/bin/python" - <<'PY'
import onnx
from onnx import TensorProto, helper

values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, 2]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "one", values[:1], values[1:])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
PY
convert() {
  "$folder/venv/bin/mnnconvert" -f ONNX --modelFile model.onnx --MNNModel model.mnn --bizCode none >/dev/null 2>&1
  test -s model.mnn
}
lines() { wc -l <"$1" | tr -d ' '; }
"$folder/venv/bin/python" -c 'import MNN' >/dev/null
imported=$(lines "$CALLS")
convert
convert
converted=$(lines "$CALLS")
called=$(sort -u "$CALLS")
PYTHONPATH="$folder/package" convert
with_it=$(($(lines "$CALLS") - converted))
echo "pip after import MNN: called $imported times; after two conversions: $converted times, $called; with that package: $with_it times, and"
echo "requests: $(cat "$REQUESTS")"
test "$imported $converted $called $with_it $(lines "$REQUESTS")" = "0 4 install -U aliyun-log-python-sdk 0 1" || {
  echo "this has changed"
  exit 1
}
