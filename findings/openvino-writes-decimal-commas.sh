#!/usr/bin/env bash
# OpenVINO 2026.4.1: `save_model` and `export_model` write the numbers of operators in the language of the process, and every reader
# takes them up to the first comma. Where something has set LC_NUMERIC to one of the many languages with a decimal comma (an
# application's `locale.setlocale(locale.LC_ALL, "")`, GTK, Qt), clamps, slopes and epsilons lose their fractions, with no error, on
# the machine that wrote the file as on any other: the same process reads 0 where it wrote 0.3.
#
#   ELU with alpha 0.3, saved and read again: C: "0.30000001192092896", difference 0.00; de_DE: "0,30000001192092896",
#   difference 0.26; by export_model and import_model 0.26. ONNX read in the same process: difference 0.00
#
# Answered by dance_ondevice/runtime/engines.py: what is kept is ONNX, and OpenVINO reads that anew.
# Needs python3, a network and `localedef` with its data (Debian: locales); ends with status 0 without, with 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
localedef -i de_DE -f UTF-8 "$folder/de_DE.UTF-8" 2>/dev/null || { echo "skipped: localedef cannot make de_DE.UTF-8"; exit 0; }
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'openvino==2026.4.1' 'onnx==1.23.2' 'numpy==2.2.6'
cd "$folder"
LOCPATH="$folder" "$folder/venv/bin/python" - <<'PY'
import locale
import pathlib
import re

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper

core, x = openvino.Core(), np.linspace(-2, 2, 9, dtype=np.float32)
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in "xy"]
graph = helper.make_graph([helper.make_node("Elu", ["x"], ["y"], alpha=0.3)], "elu", values[:1], values[1:])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "elu.onnx")
right = np.where(x < 0, 0.3 * np.expm1(x), x)


def apart(compiled):
    return float(np.abs(compiled(x)[0] - right).max())


def compiled(model):
    return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


seen = {}
for language in ("C", "de_DE.UTF-8"):
    locale.setlocale(locale.LC_NUMERIC, language)
    model = core.read_model("elu.onnx")
    openvino.save_model(model, "elu.xml", compress_to_fp16=False)
    (written,) = re.findall(r'alpha="([^"]*)"', pathlib.Path("elu.xml").read_text())
    again = core.import_model(compiled(model).export_model(), "CPU")
    seen[language] = apart(compiled(model)), apart(compiled(core.read_model("elu.xml"))), apart(again)
    print(f'OpenVINO {openvino.__version__.split("-")[0]}, {language}: ONNX {seen[language][0]:.2f}, saved as "{written}" and read again '
          f"{seen[language][1]:.2f}, exported and imported {seen[language][2]:.2f}")
good = max(seen["C"]) < 0.01 and seen["de_DE.UTF-8"][0] < 0.01 and min(seen["de_DE.UTF-8"][1:]) > 0.1
raise SystemExit(0 if good else "this has changed")
PY
