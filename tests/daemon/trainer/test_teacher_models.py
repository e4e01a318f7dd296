"""Teachers of other programs: names in another spelling, other types and layouts of an ONNX model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dance_ondevice.daemon.trainer.teacher_models import TeacherError, load_teacher

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def written(
    folder: Path,
    shape: list[int | str],
    kind: int = onnx.TensorProto.FLOAT,
    names: object = None,
    *,
    operator: str = "Identity",
    opset: int = 17,
    first: tuple[str, int, list[int | str]] | None = None,
    **attributes: int,
) -> str:
    """A model whose scores are made of its input: three classes, told apart by the strongest colour.

    ``first`` is an output before them, of another operator, type and shape.
    """
    helper = onnx.helper
    nodes = [helper.make_node(operator, ["x"], ["y"], **attributes)]
    outputs = [helper.make_tensor_value_info("y", kind, shape)]
    if first is not None:
        over = {"ArgMax": {"axis": 1}, "ReduceMax": {"axes": [1]}}.get(first[0], {})
        nodes.append(helper.make_node(first[0], ["x"], ["first"], **over))
        outputs.insert(0, helper.make_tensor_value_info("first", *first[1:]))
    graph = helper.make_graph(nodes, "teacher", [helper.make_tensor_value_info("x", kind, shape)], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    facts: dict[str, Any] = {
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "classes": names or ["red", "green", "blue"],
    }
    helper.set_model_props(model, {name: json.dumps(value) for name, value in facts.items()})
    file = folder / "teacher.onnx"
    onnx.save(model, str(file))
    return str(file)


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE])
def test_a_teacher_of_any_precision_whose_classes_are_spelt_otherwise(tmp_path: Path, kind: int) -> None:
    file = written(tmp_path, [1, 3, "h", "w"], kind, ["Blue_Sky", "sea", "red-roof"])
    see = load_teacher(file, "", ["red roof", "road", "blue sky"])
    picture = np.zeros((20, 33, 3), np.uint8)
    picture[:, :16, 2] = 255  # red: the teacher's first class
    picture[:, 16:24, 1] = 255  # green, which the learner does not know
    picture[:, 24:, 0] = 255
    assert list(see(picture, (20, 33)).mask[10, [2, 20, 30]]) == [2, 255, 0]


def test_probabilities_over_a_whole_image_are_as_sure_as_those_of_its_pixels(tmp_path: Path) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :40, 2] = 255
    picture[:, 40:, 0] = 100
    seen = []
    for opset in (12, 13):  # in which Softmax is over channels and pixels, and over the channels
        file = written(tmp_path, [1, 3, "h", "w"], operator="Softmax", opset=opset, axis=1)
        seen.append(load_teacher(file, "", ["red", "green", "blue"])(picture, (32, 64)))
    old, new = seen
    assert old.mask.tolist() == new.mask.tolist()
    np.testing.assert_allclose(old.confidence, new.confidence, rtol=1e-4)


def test_probabilities_of_a_sigmoid_are_as_sure_as_they_say(tmp_path: Path) -> None:
    picture = np.zeros((32, 32, 3), np.uint8)  # the model gives its input, which is between 0 and 1
    picture[..., 2], picture[:, 16:, 1] = 242, 242
    seen = load_teacher(written(tmp_path, [1, 3, "h", "w"]), "", ["red", "green", "blue"])(picture, (32, 32))
    assert seen.confidence[16, 4] == pytest.approx(242 / 255)
    assert seen.confidence[16, 28] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ([1, 64, 96, 3], onnx.TensorProto.FLOAT),
        ([1, 3, 64, 96], onnx.TensorProto.UINT8),
        ([1, 3, 64, "w"], onnx.TensorProto.FLOAT),
        ([1, 3, 64], onnx.TensorProto.FLOAT),
        ([4, 3, 64, 64], onnx.TensorProto.FLOAT),
    ],
)
def test_a_teacher_that_takes_something_else_is_told_at_once(
    tmp_path: Path, shape: list[int | str], kind: int
) -> None:
    with pytest.raises(TeacherError, match=r"takes .*64"):
        load_teacher(written(tmp_path, shape, kind), "", ["red", "green", "blue"])


@pytest.mark.parametrize(
    "first",
    [
        ("ArgMax", onnx.TensorProto.INT64, [1, 1, "h", "w"]),
        ("ReduceMax", onnx.TensorProto.FLOAT, [1, 1, "h", "w"]),
        ("Flatten", onnx.TensorProto.FLOAT, [1, "values"]),
    ],
)
def test_scores_are_found_among_other_outputs(
    tmp_path: Path, first: tuple[str, int, list[int | str]]
) -> None:
    file = Path(written(tmp_path, [1, 3, "h", "w"], first=first)).rename(tmp_path / "TEACHER.ONNX")
    picture = np.full((32, 32, 3), (0, 255, 0), np.uint8)
    assert (load_teacher(str(file), "", ["red", "green", "blue"])(picture, (32, 32)).mask == 1).all()


def test_a_teacher_of_ids_or_of_other_classes_is_told_how_to_be_exported(tmp_path: Path) -> None:
    file = written(tmp_path, [1, 3, "h", "w"], first=("ArgMax", onnx.TensorProto.INT64, [1, 1, "h", "w"]))
    model = onnx.load(file)
    del model.graph.output[1]
    onnx.save(model, file)
    with pytest.raises(TeacherError, match="export it without the argmax"):
        load_teacher(file, "", ["red"])
    with pytest.raises(TeacherError, match='its metadata "classes" must name the class of each channel'):
        load_teacher(written(tmp_path, [1, 3, "h", "w"], names=["red", "blue"]), "", ["red"])


def test_a_teacher_that_cannot_run_says_so(tmp_path: Path) -> None:
    model = onnx.load(written(tmp_path, [1, 3, "h", "w"]))
    model.graph.node[0].op_type = "DepthToSpace"
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("blocksize", 2))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(model, str(tmp_path / "teacher.onnx"))
    see = load_teacher(str(tmp_path / "teacher.onnx"), "", ["red", "green", "blue"])
    with pytest.raises(TeacherError, match="does not run on"):
        see(np.zeros((32, 32, 3), np.uint8), (32, 32))


def test_a_class_of_a_teacher_without_a_name_is_ignored(tmp_path: Path) -> None:
    see = load_teacher(written(tmp_path, [1, 3, "h", "w"], names=["red", None, 3]), "", ["red"])
    picture = np.full((32, 32, 3), (0, 255, 0), np.uint8)
    assert (see(picture, (32, 32)).mask == 255).all()
    with pytest.raises(TeacherError, match="JSON list"):
        load_teacher(written(tmp_path, [1, 3, "h", "w"], names={"0": "red"}), "", ["red"])
