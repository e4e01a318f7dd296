"""Formats of exported models: writing and reading ONNX, TorchScript and ExecuTorch."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dance_ondevice.extras import install_command
from dance_ondevice.images.masks import STRIDE
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import coarse, heads_of
from dance_ondevice.models.layers import resize
from dance_ondevice.runtime.engines import SIDES, import_onnxruntime

#: Version of the ONNX operators, that of ONNX 1.12 (2022), which the runtimes on boards support.
_OPSET = 17

#: Size (height, width) that a graph for any size is traced at. A trace records only the branches taken: if a
#: map had just the size that a pyramid pools to, its resizing would be missing. With 17 and 19 times 32, none
#: has.
_TRACED_AT = (544, 608)

#: Function from a normalised batch (1, 3, H, W) to logits (1, C, H, W).
Run = Callable[[Tensor], Tensor]


class ExportError(RuntimeError):
    """Error: the model cannot be exported, or the file does not agree with it; the message says which."""


class MissingPackage(ExportError):  # noqa: N818 - says what is wrong
    """Error: a required package is not installed, so no other size is tried."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this format needs {package}: {install_command(extra)}")


@dataclass(frozen=True)
class Writer:
    """Functions that write and read one format.

    Attributes:
        write: Writes the graph for a size (height, width), or for any size, to a file, with the card's facts.
        read: Reads the file and returns the function that it computes.
        any_size: True if the format supports images of any size.
    """

    write: Callable[[nn.Module, tuple[int, int], bool, Path, ModelCard], None]
    read: Callable[[Path], Run]
    any_size: bool


def to_onnx(
    model: nn.Module,
    size: tuple[int, int],
    *,
    any_size: bool = True,
    fold: bool = True,
    upsample: bool = True,
) -> bytes:
    """Export a model to ONNX: input ``image`` (1, 3, H, W) normalised RGB, output ``logits`` (1, C, H, W).

    Args:
        model: Model in eval mode, on the CPU.
        size: Size (height, width) of the images, unless `any_size` is true.
        any_size: True leaves H and W open.
        fold: True merges batch norms into the convolutions before them; otherwise each keeps its four tensors
            under its module's name, after ``model.``.
        upsample: True upsamples the logits to the input's size; otherwise they stay at the model's
            resolution.

    Raises:
        ExportError: The exporter does not know one of the model's operations.
    """
    return _onnx_of(Graph(model, upsample=upsample).eval(), size, any_size=any_size, fold=fold)


class Graph(nn.Module):
    """A model with one output, at the input's size or at the model's resolution.

    With ``pad``, what the service does around a model stands in the graph: the edge is repeated until both
    sides are multiples of 32, and cut off again. Without it a network with skip connections takes such sides
    alone.
    """

    def __init__(self, model: nn.Module, *, upsample: bool = True, pad: bool = False) -> None:
        super().__init__()
        self.model = model
        self._upsample = upsample
        self._pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """Map (1, 3, H, W) to logits (1, C, H, W), or to logits at the model's resolution."""
        height, width = x.shape[2:]
        below, right = -height % STRIDE, -width % STRIDE
        # While it is traced the sides are not numbers, and the padding is computed in the graph.
        if self._pad and not (isinstance(below, int) and below == right == 0):
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        if not self._upsample:
            return heads_of(coarse(self.model)(x))[0]
        whole = resize(heads_of(self.model(x))[0], x.shape[2:])
        return whole[..., :height, :width] if self._pad else whole


class _PReLUAsSum(TorchFunctionMode):
    """PReLU as a sum of what it does to all values and what it does to positive ones.

    onnxruntime (1.32, x86) takes more than twice as long for its own operator as for these four, since it
    computes value by value and reorders the channels around it.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function not in (F.prelu, torch.prelu):
            return function(*args, **(kwargs or {}))
        x, slope = (*args, *(kwargs or {}).values())
        slope = slope.view(-1, *(1,) * (x.dim() - 2))  # along the channels, which come second
        return slope * x + (1 - slope) * x.relu()


class _PoolingAsProducts(TorchFunctionMode):
    """Adaptive average pooling as two matrix products, which every runtime supports, for any size.

    ONNX has no such pooling; its exporter supports only grids that divide the image. It has no channel
    shuffle either, which is written as moves of axes.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is F.channel_shuffle:
            x, groups = (*args, *(kwargs or {}).values())
            n, _, height, width = x.shape
            return x.reshape(n, groups, -1, height, width).transpose(1, 2).reshape(n, -1, height, width)
        if function is not F.adaptive_avg_pool2d:
            return function(*args, **(kwargs or {}))
        x, cells = (*args, *(kwargs or {}).values())[:2]
        rows, columns = (cells, cells) if isinstance(cells, int) else cells
        height, width = x.shape[2:]
        down = _averaging(height, height if rows is None else rows)
        across = _averaging(width, width if columns is None else columns)
        return down @ x @ across.transpose(0, 1)


def _averaging(pixels: Any, cells: Any) -> Tensor:
    """Return the weight of each pixel in each cell (cells, pixels); cells have the bounds of ATen's pooling.

    While torch.jit traces, ``pixels`` is not a number but the traced side, so that this computation becomes
    part of the graph. If it is a number, the matrix is a constant of the graph.
    """
    if isinstance(pixels, int):
        ends = [(cell * pixels // cells, -(-(cell + 1) * pixels // cells)) for cell in range(cells)]
        return torch.tensor(
            [[1.0 / (end - start) if start <= pixel < end else 0.0 for pixel in range(pixels)]
             for start, end in ends]
        )  # fmt: skip
    cell, pixel = torch.arange(cells), torch.arange(pixels)
    start = torch.div(cell * pixels, cells, rounding_mode="floor")
    end = torch.div((cell + 1) * pixels + cells - 1, cells, rounding_mode="floor")
    inside = (pixel[None] >= start[:, None]) & (pixel[None] < end[:, None])
    return inside.to(torch.float32) / (end - start)[:, None].to(torch.float32)


@contextlib.contextmanager
def _graph_unprinted() -> Iterator[None]:
    """Keep the exporter from printing the whole graph, hundreds of lines, where it fails.

    Its log is meant to be off, but torch 2.13 switches it on at each export.
    """
    log = getattr(torch._C, "_jit_onnx_log", None)
    if log is None:
        yield
        return
    setattr(torch._C, "_jit_onnx_log", lambda *_: None)  # noqa: B010 - its stubs do not have it
    try:
        yield
    finally:
        setattr(torch._C, "_jit_onnx_log", log)  # noqa: B010


def _onnx_of(graph: nn.Module, size: tuple[int, int], *, any_size: bool, fold: bool) -> bytes:
    target = io.BytesIO()
    mode = torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE
    axes = {name: dict(zip((2, 3), SIDES, strict=True)) for name in ("image", "logits")} if any_size else None
    try:
        with (
            warnings.catch_warnings(),
            _graph_unprinted(),
            torch.no_grad(),
            _PoolingAsProducts(),
            _PReLUAsSum(),
        ):
            # It warns that it traces and is the older of two exporters; the result is compared later.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                (torch.zeros(1, 3, *(_TRACED_AT if any_size else size)),),
                cast("Any", target),  # its stubs allow paths only
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes=axes,
                opset_version=_OPSET,
                training=mode,
                do_constant_folding=fold,
                dynamo=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise ExportError(f"the model cannot be written as ONNX: {first_line(error)}") from error
    return target.getvalue()


def _write_onnx(graph: nn.Module, size: tuple[int, int], any_size: bool, file: Path, card: ModelCard) -> None:
    try:
        import onnx
    except ImportError as error:
        raise MissingPackage("onnx", "onnx") from error
    model = onnx.load_from_string(_onnx_of(graph, size, any_size=any_size, fold=True))
    onnx.helper.set_model_props(model, _facts(card))
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString())


def _read_onnx(file: Path) -> Run:
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise MissingPackage("onnxruntime", "onnx") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"image": x.contiguous().numpy()})[0])


def _write_torchscript(
    graph: nn.Module, size: tuple[int, int], any_size: bool, file: Path, card: ModelCard
) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns of each comparison of sizes; see the comparison
        trace: Any = torch.jit.trace
        at = _TRACED_AT if any_size else size
        traced = trace(graph, (torch.zeros(1, 3, *at),), check_trace=False)
        frozen = torch.jit.freeze(cast("torch.jit.ScriptModule", traced))
        torch.jit.save(frozen, str(file), _extra_files={"facts.json": json.dumps(_facts(card)).encode()})


def _read_torchscript(file: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load: Any = torch.jit.load
        return cast("Run", load(str(file), map_location="cpu"))


def _write_executorch(
    graph: nn.Module, size: tuple[int, int], any_size: bool, file: Path, card: ModelCard
) -> None:
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
    except ImportError as error:
        raise MissingPackage("executorch", "executorch") from error
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it warns about its own internals
        with _PoolingAsProducts():
            program = torch.export.export(graph, (torch.zeros(1, 3, *size),))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        file.write_bytes(lowered.to_executorch().buffer)


def _read_executorch(file: Path) -> Run:
    try:
        from executorch.runtime import Runtime
    except ImportError as error:
        raise MissingPackage("executorch", "executorch") from error
    method = Runtime.get().load_program(file).load_method("forward")
    return lambda x: cast("Tensor", method.execute([x.contiguous()])[0])


def _facts(card: ModelCard) -> dict[str, str]:
    """Return the facts that a program needs to use the file; an ONNX teacher reads the first three."""
    return {
        "classes": json.dumps(list(card.classes)),
        "mean": json.dumps(list(card.normalisation.mean)),
        "std": json.dumps(list(card.normalisation.std)),
        "version": card.version,
        "sha256": card.sha256,
    }


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, since some exporters add pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


WRITERS: Mapping[str, Writer] = {
    "onnx": Writer(_write_onnx, _read_onnx, any_size=True),
    "torchscript": Writer(_write_torchscript, _read_torchscript, any_size=True),
    # ExecuTorch plans the memory for one size when the file is written.
    "executorch": Writer(_write_executorch, _read_executorch, any_size=False),
}

FORMATS: tuple[str, ...] = tuple(WRITERS)
