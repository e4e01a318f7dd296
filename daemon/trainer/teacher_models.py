"""Loads teachers (a checkpoint, a model from a factory, an ONNX file) as functions from image to mask."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dance_ondevice.extras import install_command
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.images.masks import STRIDE
from dance_ondevice.label_formats.class_map import ClassMap
from dance_ondevice.models import checkpoint, registry
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import as_parameters, logits, to_tensor
from dance_ondevice.models.layers import resize
from dance_ondevice.runtime.engines import import_onnxruntime

__all__ = ["Seen", "Teacher", "TeacherError", "load_teacher"]


#: Types of an ONNX model's tensors that normalised images can be given in, and scores taken from.
_FLOATS: Mapping[str, Any] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
}


class TeacherError(ValueError):
    """The teacher cannot be used; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A teacher's answer: (H, W) uint8 ids of the learner's classes (255: none of them), and (H, W) float32
    confidences, 0 to 1.
    """

    mask: NDArray[np.uint8]
    confidence: NDArray[np.float32]


#: Takes an image (h, w, 3) uint8 BGR and the (H, W) of the mask that is wanted.
Teacher = Callable[[NDArray[np.uint8], tuple[int, int]], Seen]


def load_teacher(
    teacher: str, factory: str, classes: Sequence[str], device: Literal["cpu", "cuda"] = "cpu"
) -> Teacher:
    """Load a teacher; its classes are matched to the learner's by name, or by order when it has no names.

    Args:
        teacher: See ``TeacherJob``.
        factory: See ``TeacherJob``.
        classes: Classes of the learner.
        device: Where it runs; an ONNX model runs on the CPU.

    Raises:
        TeacherError: The teacher does not load, or shares no class with the learner.
    """
    try:
        if factory:
            return _from_factory(teacher, factory, classes, device)
        if Path(teacher).suffix.lower() == ".onnx":
            return _from_onnx(Path(teacher), classes)
        model, card = checkpoint.load(Path(teacher))
    except ValueError as error:  # checkpoint's, registry's and safetensors' errors are ValueErrors
        raise TeacherError(f"the teacher does not load: {error}") from error
    return _of_module(model.to(device), card.normalisation, _table(card.classes, classes, teacher))


def _from_factory(
    weights: str, factory: str, classes: Sequence[str], device: Literal["cpu", "cuda"]
) -> Teacher:
    model = registry.build_from_factory(factory, len(classes))
    if weights:
        import safetensors
        import safetensors.torch

        try:
            model.load_state_dict(safetensors.torch.load_file(weights))
        except (OSError, RuntimeError, safetensors.SafetensorError) as error:
            raise TeacherError(f"{weights} does not fit the model of {factory}: {error}") from error
    return _of_module(model.eval().to(device), Normalisation(), np.arange(len(classes), dtype=np.uint8))


def _of_module(model: torch.nn.Module, normalisation: Normalisation, table: NDArray[np.uint8]) -> Teacher:
    def see(bgr: NDArray[np.uint8], size: tuple[int, int]) -> Seen:
        with torch.inference_mode():
            x = as_parameters(model, to_tensor(bgr, normalisation))
            scores = resize(logits(model, x), size).float()
            best, mask = scores.max(dim=1)
            confidence = (scores - best.unsqueeze(1)).exp_().sum(dim=1).reciprocal_()
        return Seen(table[mask[0].cpu().numpy()], confidence[0].cpu().numpy())

    return see


def _from_onnx(file: Path, classes: Sequence[str]) -> Teacher:
    """Load an ONNX model (N, 3, H, W) -> (N, C, h, w) that returns logits or probabilities, in any output.

    Its metadata may set "classes" (a JSON list), and "mean" and "std" (JSON lists in the order R, G, B).
    """
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise TeacherError(f"an .onnx teacher needs onnxruntime: {install_command('onnx')}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes derive from Exception alone
        raise TeacherError(f"{file} does not load: {error}") from error
    (source, *others) = session.get_inputs()
    kind = _FLOATS.get(source.type)
    shaped = len(source.shape) == 4 and _may_be(source.shape[0], 1) and _may_be(source.shape[1], 3)
    if others or kind is None or not shaped:
        raise TeacherError(
            f"{file} must take one image at a time, (1 or any, 3, H, W) of floats; it takes "
            + _described(session.get_inputs())
        )
    names, normalisation = _metadata(session.get_modelmeta().custom_metadata_map, file)
    table = np.arange(len(classes), dtype=np.uint8) if names is None else _table(names, classes, str(file))
    name = _output(session.get_outputs(), len(table), str(file), named=names is not None)
    fixed = tuple(side for side in source.shape[2:] if isinstance(side, int) and side > 0)
    if len(fixed) == 1:
        raise TeacherError(f"{file} takes {source.shape}: export it with both sides open, or both fixed")

    def see(bgr: NDArray[np.uint8], size: tuple[int, int]) -> Seen:
        image, inner = _fitted(bgr, (fixed[0], fixed[1]) if len(fixed) == 2 else None)
        x = to_tensor(image, normalisation).contiguous().numpy().astype(kind, copy=False)
        try:
            output: Any = session.run([name], {source.name: x})[0]
        except Exception as error:  # as above
            raise TeacherError(f"{file} does not run on {x.shape}: {error}") from error
        scores = np.asarray(output, np.float32)
        if scores.ndim != 4 or scores.shape[1] != len(table):
            raise TeacherError(
                f"{file} gives an output of shape {scores.shape}; expected (1, {len(table)}, h, w), "
                "a channel a class"
            )
        probabilities = _by_pixel(scores, exact=np.asarray(output).dtype == np.float32)
        given = torch.from_numpy(scores if probabilities is None else probabilities)
        whole = resize(given, image.shape[:2])[..., : inner[0], : inner[1]]
        whole = resize(whole, size)[0]
        best, mask = (whole.softmax(dim=0) if probabilities is None else whole).max(dim=0)
        return Seen(table[mask.numpy()], best.numpy())

    return see


def _metadata(facts: Mapping[str, str], file: Path) -> tuple[list[Any] | None, Normalisation]:
    """The names of an ONNX model's classes, None where it has none, and its normalisation."""
    try:
        names = json.loads(facts["classes"]) if "classes" in facts else None
        normalisation = (
            Normalisation(tuple(json.loads(facts["mean"])), tuple(json.loads(facts["std"])))
            if {"mean", "std"} <= facts.keys()
            else Normalisation()
        )
    except (ValueError, TypeError) as error:
        raise TeacherError(f"{file}: its metadata classes, mean or std cannot be read: {error}") from error
    if names is not None and not isinstance(names, list):
        raise TeacherError(f'{file}: its metadata classes must be a JSON list of names, such as ["road"]')
    return names, normalisation


def _output(outputs: Sequence[Any], n_classes: int, source: str, *, named: bool) -> str:
    """Return the name of an ONNX model's first output with a channel a class; others are auxiliary.

    Raises:
        TeacherError: There is none.
    """
    scores = [each for each in outputs if each.type in _FLOATS and len(each.shape) in (0, 4)]
    exact = [each for each in scores if n_classes in each.shape[1:2]]
    # Some exporters leave the channels, or the whole shape, open: that is seen at the first image.
    possible = [each for each in scores if not each.shape or _may_be(each.shape[1], n_classes)]
    if exact or possible:
        return str((exact or possible)[0].name)
    given = _described(outputs)
    wanted = f"{source} must give scores (1, {n_classes}, h, w), a channel a class; it gives {given}"
    if all(each.type not in _FLOATS for each in outputs):
        remedy = (
            "these are ids of classes, which do not tell how sure it is: export it without the argmax at its "
            "end (mmdeploy: with_argmax=False; PaddleSeg: --output_op softmax)"
        )
    elif named:
        remedy = 'its metadata "classes" must name the class of each channel, in order'
    else:
        remedy = (
            'its metadata "classes", a JSON list, must name the class of each channel where they are not '
            "those of model.classes"
        )
    raise TeacherError(f"{wanted}: {remedy}")


def _may_be(size: object, wanted: int) -> bool:
    """Whether an axis of an ONNX model may have this size: open ones have a name, or none."""
    return not isinstance(size, int) or size < 1 or size == wanted


def _described(nodes: Sequence[Any]) -> str:
    return ", ".join(f"{each.name} {each.shape} of {each.type}" for each in nodes)


def _by_pixel(scores: NDArray[np.float32], *, exact: bool) -> NDArray[np.float32] | None:
    """The probabilities (1, C, h, w) of each pixel's classes, or None where the scores are logits.

    Up to opset 12 a Softmax over the channels is one over channels and pixels together: all probabilities of
    an image add up to 1, and each pixel's have to be divided by their sum
    (findings/softmax-of-an-old-file-is-two-operators.sh). Unless they are ``exact``, of 32 bits, most of them
    are too small for their format, and what is left tells nothing of its pixel. Those of a sigmoid are
    divided where they add up to more than 1.
    """
    if not (scores >= 0).all():
        return None
    sums = scores.sum(axis=1, keepdims=True)
    if np.allclose(sums, 1.0, atol=1e-3):
        return scores
    if exact and np.isclose(sums.sum(dtype=np.float64), 1.0, atol=1e-3):
        found: NDArray[np.float32] = np.divide(scores, sums, out=np.zeros_like(scores), where=sums > 0)
        return found
    if (scores <= 1).all() and sums.sum(dtype=np.float64) > 2.0:  # of a sigmoid for each class
        return np.asarray(scores / np.maximum(sums, 1.0), np.float32)
    return None


def _fitted(
    bgr: NDArray[np.uint8], size: tuple[int, int] | None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The image as an ONNX model takes it, and the (height, width) of its upper left part that counts.

    For a fixed input size the image is stretched; otherwise its edge is repeated until both sides are
    multiples of 32, as for this project's own models.
    """
    height, width = bgr.shape[:2]
    if size is None:
        below, right = -height % STRIDE, -width % STRIDE
        padded = np.pad(bgr, ((0, below), (0, right), (0, 0)), mode="edge") if below or right else bgr
        return padded, (height, width)
    import cv2

    stretched = cv2.resize(bgr, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(stretched, np.uint8), size


def _table(own: Sequence[object], classes: Sequence[str], source: str) -> NDArray[np.uint8]:
    """The learner's id of each of the teacher's classes, in any spelling; 255 where the learner has none."""
    found = [ClassMap().lookup(name, classes) if isinstance(name, str) else None for name in own]
    table = np.array([IGNORE if each is None else each for each in found], np.uint8)
    if (table == IGNORE).all():
        raise TeacherError(
            f"the teacher {source} distinguishes {', '.join(map(str, own))}, none of which is among "
            "model.classes"
        )
    return table
