#!/usr/bin/env bash
# ai-edge-litert 2.3.0 (LiteRT, TensorFlow Lite's heir): in its new API, `CompiledModel`, an input buffer knows its type and shape, and
# `TensorBuffer.write` checks neither: it copies the bytes of what it gets. A camera's uint8 frame in a float32 input is four
# pixels to a float, numbers of 1e-37 to 1e38, and covers a quarter of the input; behind it the previous frame is still there. So does
# a batch with fewer images, float16 or int32. Only what is too large, and types that it does not know (float64, which is what
# numpy makes of `frame / 255`), raise. `Interpreter.set_tensor`, which it replaces, refuses all of them with a reason.
#
#   a float32 input of 16 values, all 9; written then: uint8 of 16 ones 2.37e-38, then 9; the first 8 values alone 1, then 9;
#   float64 ValueError; Interpreter.set_tensor of uint8 ValueError, of 8 values ValueError
#
# Not used here: none of the engines in dance_ondevice/runtime/engine_table.py is LiteRT.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ai-edge-litert==2.3.0' 'numpy==2.2.6' 'flatbuffers==25.12.19'
cd "$folder"
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
from importlib.metadata import version

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter

SHAPE = (1, 4, 4, 1)


def tensor(name):
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer, made.hasRank = name, list(SHAPE), schema.TensorType.FLOAT32, 0, True
    return made


code, operator, graph, model = schema.OperatorCodeT(), schema.OperatorT(), schema.SubGraphT(), schema.ModelT()
code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ABS
code.version = 1
operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor("x"), tensor("y")], [0], [1], [operator]
model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
builder = flatbuffers.Builder(1024)
builder.Finish(model.Pack(builder), b"TFL3")
with open("abs.tflite", "wb") as file:
    file.write(bytes(builder.Output()))

compiled = CompiledModel.from_file("abs.tflite")
inputs, outputs = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
assert inputs[0].get_tensor_details()["dtype"] == "float32"
interpreter = Interpreter("abs.tflite")
interpreter.allocate_tensors()


def written(values):
    """The model's answer to an input that was written over one of nines."""
    inputs[0].write(np.full(SHAPE, 9, np.float32))
    try:
        inputs[0].write(values)
    except ValueError as error:
        return type(error).__name__
    compiled.run_by_index(0, inputs, outputs)
    return outputs[0].read(16, np.float32).tolist()


def set_tensor(values):
    try:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    except ValueError as error:
        return type(error).__name__
    return "taken"


ones = np.ones(SHAPE, np.float32)
cases = {"float32": ones, "uint8": ones.astype(np.uint8), "8 values": ones[:, :2], "float64": ones.astype(float)}
seen = {name: (written(values), set_tensor(values)) for name, values in cases.items()}
print("ai-edge-litert", version("ai-edge-litert"))
for name, (first, second) in seen.items():
    print(f"{name}: TensorBuffer.write {first}, Interpreter.set_tensor {second}")
bits = float(np.frombuffer(bytes([1, 1, 1, 1]), np.float32)[0])
expected = {
    "float32": ([1.0] * 16, "taken"),
    "uint8": ([bits] * 4 + [9.0] * 12, "ValueError"),
    "8 values": ([1.0] * 8 + [9.0] * 8, "ValueError"),
    "float64": ("ValueError", "ValueError"),
}
raise SystemExit(0 if seen == expected else "this has changed")
PY
