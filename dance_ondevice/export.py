"""A model as a file for other programs: ONNX, TorchScript or ExecuTorch, kept only if it agrees with the model.

What is exported takes a batch of one image, (1, 3, H, W) float32, RGB and normalised as the card says, and
gives logits (1, C, H, W). Sides that are multiples of 32 give what this package computes; it pads others.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dance_ondevice.images import resize_exact
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import STRIDE, to_tensor
from dance_ondevice.models.layers import resize

__all__ = ["FORMATS", "ExportError", "Exported", "Parity", "export", "to_onnx"]

Format = Literal["onnx", "torchscript", "executorch"]
FORMATS: tuple[str, ...] = get_args(Format)

#: Operators as of ONNX 1.12 (2022): old enough for the runtimes that boards have.
_OPSET = 17
#: Logits may differ by this share of the largest one: other orders of summation, not other models.
_TOLERANCE = 1e-3
#: Share of pixels whose class must be the same.
_AGREEMENT = 0.999

#: Logits (1, C, H, W) of a normalised batch (1, 3, H, W).
Run = Callable[[Tensor], Tensor]


class ExportError(RuntimeError):
    """The model cannot be exported in this way, or the file does not agree with it; the text says which."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How well a file agrees with its model.

    Attributes:
        frames: how many images both were run on.
        max_difference: the largest absolute difference of any two logits.
        largest_logit: the largest absolute logit, which gives the difference its scale.
        mask_agreement: share of the pixels of all frames that get the same class.
    """

    frames: int
    max_difference: float
    largest_logit: float
    mask_agreement: float

    @property
    def agrees(self) -> bool:
        """Whether the two are the same model; differences that are no number are not."""
        allowed = _TOLERANCE * max(1.0, self.largest_logit)
        return self.max_difference <= allowed and self.mask_agreement >= _AGREEMENT


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written.

    Attributes:
        format: one of :data:`FORMATS`.
        size: (height, width) that images must have; None where any size is right.
        parity: with the model.
        bytes: of the file.
    """

    format: str
    size: tuple[int, int] | None
    parity: Parity
    bytes: int


@dataclass(frozen=True)
class _Writer:
    """How one format is written and read again: ``write`` takes the graph, size, whether any size, file."""

    write: Callable[[nn.Module, tuple[int, int], bool, Path, ModelCard], None]
    read: Callable[[Path], Run]
    any_size: bool


def export(
    model: nn.Module,
    card: ModelCard,
    form: str,
    file: Path,
    *,
    size: tuple[int, int],
    frames: Sequence[NDArray[np.uint8]],
) -> Exported:
    """Write a model as a file, and read it again to see that it computes the same.

    A file for images of any size is tried first; where that does not agree, one for ``size`` alone.

    Args:
        model: in eval mode.
        card: the model's.
        form: one of :data:`FORMATS`.
        file: replaced where there is one, but only by one that agrees.
        size: (height, width) of the images; rounded up to multiples of 32.
        frames: (h, w, 3) uint8 BGR images to compare on, at least one; resized.

    Raises:
        ExportError: nothing was written.
        OSError: the disk.
    """
    if not frames:
        raise ExportError("there are no frames to compare the exported file with the model on")
    try:
        writer = _WRITERS[form]
    except KeyError:
        raise ExportError(f"unknown format {form!r}; choose one of {', '.join(FORMATS)}") from None
    height, width = (side + -side % STRIDE for side in size)
    graph = _Graph(model).eval()
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.part")
    # The second size tells whether the first one was frozen into the graph.
    other = (height + STRIDE, width + 2 * STRIDE)
    problem = ""
    try:
        for any_size in (True, False) if writer.any_size else (False,):
            sizes = [(height, width), other] if any_size else [(height, width)]
            try:
                writer.write(graph, (height, width), any_size, unfinished, card)
                parity = _compare(graph, writer.read(unfinished), frames, sizes, card)
            except _FAILURES as error:
                problem = f"{type(error).__name__}: {_first_line(error)}"
                continue
            if parity.agrees:
                unfinished.replace(file)
                fixed = None if any_size else (height, width)
                return Exported(format=form, size=fixed, parity=parity, bytes=file.stat().st_size)
            problem = (
                f"logits differ by up to {parity.max_difference:.3g} (the largest is "
                f"{parity.largest_logit:.3g}), {parity.mask_agreement:.2%} of the pixels get the same class"
            )
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    raise ExportError(f"no {form} file of this model agrees with it, and none was written: {problem}")


def to_onnx(model: nn.Module, size: tuple[int, int], *, any_size: bool = True, fold: bool = True) -> bytes:
    """A model as ONNX: input ``image`` (1, 3, H, W) normalised RGB, output ``logits`` (1, C, H, W).

    Args:
        model: in eval mode, on the CPU.
        size: (height, width) to trace it at.
        any_size: leave H and W open.
        fold: merge batch norms into the convolutions before them; without it each keeps its four tensors
            under its module's name, after ``model.``.

    Raises:
        ExportError: the exporter does not know one of the model's operations.
    """
    return _onnx_of(_Graph(model).eval(), size, any_size=any_size, fold=fold)


class _Graph(nn.Module):
    """A model with one output, of the input's size."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        found = self.model(x)
        head = found if isinstance(found, Tensor) else found[0]
        return resize(head, x.shape[2:])


class _PoolingAsProducts(TorchFunctionMode):
    """Adaptive average pooling as two products with matrices, which every runtime has, for images of any size.

    ONNX has no such pooling; its exporter knows only grids that divide the image.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is not F.adaptive_avg_pool2d:
            return function(*args, **(kwargs or {}))
        x, cells = (*args, *(kwargs or {}).values())[:2]
        rows, columns = (cells, cells) if isinstance(cells, int) else cells
        height, width = x.shape[2:]
        down = _averaging(height, height if rows is None else rows)
        across = _averaging(width, width if columns is None else columns)
        return down @ x @ across.transpose(0, 1)


def _averaging(pixels: Any, cells: Any) -> Tensor:
    """(cells, pixels): the weight of each pixel in each cell, whose ends are those of ATen's pooling.

    While tracing, ``pixels`` is not a number but the traced side, and what is made here is traced as well.
    """
    cell, pixel = torch.arange(cells), torch.arange(pixels)
    start = torch.div(cell * pixels, cells, rounding_mode="floor")
    end = torch.div((cell + 1) * pixels + cells - 1, cells, rounding_mode="floor")
    inside = (pixel[None] >= start[:, None]) & (pixel[None] < end[:, None])
    return inside.to(torch.float32) / (end - start)[:, None].to(torch.float32)


def _onnx_of(graph: nn.Module, size: tuple[int, int], *, any_size: bool, fold: bool) -> bytes:
    target = io.BytesIO()
    mode = torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE
    axes = {name: {2: "height", 3: "width"} for name in ("image", "logits")} if any_size else None
    try:
        with warnings.catch_warnings(), torch.no_grad(), _PoolingAsProducts():
            # That it traces, and is the older of two exporters, is known; what came out is compared later.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                (torch.zeros(1, 3, *size),),
                target,
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes=axes,
                opset_version=_OPSET,
                training=mode,
                do_constant_folding=fold,
                dynamo=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise ExportError(f"the model cannot be written as ONNX: {_first_line(error)}") from error
    return target.getvalue()


def _write_onnx(graph: nn.Module, size: tuple[int, int], any_size: bool, file: Path, card: ModelCard) -> None:
    try:
        import onnx
    except ImportError as error:
        raise _Missing("onnx", "dance-ondevice[onnx]") from error
    model = onnx.load_from_string(_onnx_of(graph, size, any_size=any_size, fold=True))
    onnx.helper.set_model_props(model, _facts(card))
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString())


def _read_onnx(file: Path) -> Run:
    try:
        import onnxruntime
    except ImportError as error:
        raise _Missing("onnxruntime", "dance-ondevice[onnx]") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"image": x.contiguous().numpy()})[0])


def _write_torchscript(
    graph: nn.Module, size: tuple[int, int], any_size: bool, file: Path, card: ModelCard
) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns of each comparison of sizes; see the comparison
        traced = torch.jit.trace(graph, (torch.zeros(1, 3, *size),), check_trace=False)
        frozen = torch.jit.freeze(cast("torch.jit.ScriptModule", traced))
        torch.jit.save(frozen, str(file), _extra_files={"facts.json": json.dumps(_facts(card)).encode()})


def _read_torchscript(file: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cast("Run", torch.jit.load(str(file), map_location="cpu"))


def _write_executorch(
    graph: nn.Module, size: tuple[int, int], any_size: bool, file: Path, card: ModelCard
) -> None:
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
    except ImportError as error:
        raise _Missing("executorch", "executorch") from error
    with torch.no_grad(), _PoolingAsProducts():
        program = torch.export.export(graph, (torch.zeros(1, 3, *size),))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    file.write_bytes(lowered.buffer)


def _read_executorch(file: Path) -> Run:
    try:
        from executorch.runtime import Runtime
    except ImportError as error:
        raise _Missing("executorch", "executorch") from error
    method = Runtime.get().load_program(file).load_method("forward")
    return lambda x: cast("Tensor", method.execute([x.contiguous()])[0])


_WRITERS: dict[str, _Writer] = {
    "onnx": _Writer(_write_onnx, _read_onnx, any_size=True),
    "torchscript": _Writer(_write_torchscript, _read_torchscript, any_size=True),
    # Its memory is planned for one size when the file is made.
    "executorch": _Writer(_write_executorch, _read_executorch, any_size=False),
}


class _Missing(ExportError):
    """A package that is needed is not installed; another size will not help."""

    def __init__(self, package: str, install: str) -> None:
        super().__init__(f"this format needs {package}: pip install '{install}'")


def _compare(
    graph: nn.Module,
    run: Run,
    frames: Sequence[NDArray[np.uint8]],
    sizes: Sequence[tuple[int, int]],
    card: ModelCard,
) -> Parity:
    parity = Parity(frames=0, max_difference=0.0, largest_logit=0.0, mask_agreement=0.0)
    same = pixels = 0
    for height, width in sizes:
        for frame in frames:
            x = to_tensor(resize_exact(frame, (height, width)), card.normalisation)
            with torch.inference_mode():
                expected = graph(x)
            with torch.no_grad():
                found = run(x.clone())
            if found.shape != expected.shape:
                raise ExportError(
                    f"it gives {tuple(found.shape)}, the model {tuple(expected.shape)} for {height}x{width}"
                )
            difference = (found - expected).abs().max()
            same += int((found.argmax(dim=1) == expected.argmax(dim=1)).sum())
            pixels += height * width
            parity = replace(
                parity,
                frames=parity.frames + 1,
                # Written so that a NaN stays one.
                max_difference=float(torch.maximum(difference, torch.tensor(parity.max_difference))),
                largest_logit=max(parity.largest_logit, float(expected.abs().max())),
            )
    return replace(parity, mask_agreement=same / pixels)


def _facts(card: ModelCard) -> dict[str, str]:
    """What a program must know to use the file; an ONNX teacher reads the first three."""
    return {
        "classes": json.dumps(list(card.classes)),
        "mean": json.dumps(list(card.normalisation.mean)),
        "std": json.dumps(list(card.normalisation.std)),
        "version": card.version,
        "sha256": card.sha256,
    }


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
