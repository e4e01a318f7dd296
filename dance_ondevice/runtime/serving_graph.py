"""Making the graph of a model for serving: exported, with the places of what conditions set, and compared."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dance_ondevice.conditions.learning import own_parameters
from dance_ondevice.conditions.statistics import NormStatistics, apply, capture, tensors_of_norms
from dance_ondevice.conditions.store import as_arrays
from dance_ondevice.images.masks import STRIDE
from dance_ondevice.models.forward import coarse, heads_of
from dance_ondevice.models.layers import resize
from dance_ondevice.runtime.engines import ENGINES
from dance_ondevice.runtime.formats import ExportError, MissingPackage, to_onnx
from dance_ondevice.runtime.graph_file import GraphError, ServingGraph

__all__ = ["agree", "graph_of"]

#: Largest allowed difference of a logit to torch, as a share of the largest logit.
_TOLERANCE = 1e-3


def graph_of(model: nn.Module, size: tuple[int, int], sha256: str = "") -> ServingGraph:
    """Export a model for ``GraphServer``, and check that it computes the same, with values of conditions too.

    Args:
        model: Model in eval mode, on the CPU, that no other thread runs.
        size: Size (height, width) of typical images.
        sha256: SHA-256 of the model's tensors file.

    Raises:
        ExportError: A package is not installed, or the model cannot be exported, or does not agree.
    """
    height, width = (side + -side % STRIDE for side in size)
    strange = _distinct(model)
    sizes = [(height, width), (height + STRIDE, width + 2 * STRIDE)]
    # Batch norms stay apart here, so that their statistics can be set; the engine merges them.
    try:
        graph = to_onnx(strange, (height, width), fold=False, upsample=False)
    except MissingPackage:
        raise
    except ExportError:  # the model takes images of one size only
        graph = to_onnx(strange, (height, width), any_size=False, fold=False, upsample=False)
        sizes = sizes[:1]
    learnt = own_parameters(model)
    values = as_arrays(capture(strange, affine=True, learnt=learnt)).by_name()
    places = {name: place for name, array in values.items() if (place := _place(graph, array.tobytes()))}
    made = ServingGraph(graph, sha256, places, learnt=True)
    own = capture(model, affine=True, learnt=learnt)
    made = ServingGraph(made.of(as_arrays(own)), sha256, places, learnt=True)
    _check(model, made, sizes, None)
    # Whether a condition's values end up where they belong is shown by values that differ everywhere.
    other = capture(strange, learnt=learnt)
    _check(model, made, sizes[:1], NormStatistics(other.layers))
    try:
        _check(model, made, sizes[:1], other)
    except ExportError:
        made = ServingGraph(made.onnx, sha256, places, learnt=False)
    return made


def agree(a: nn.Module, b: nn.Module, x: Tensor) -> bool:
    """Return whether two modules compute the same for (1, 3, H, W), apart from rounding."""
    with torch.inference_mode():
        first, second = (resize(heads_of(coarse(module)(x))[0], x.shape[2:]) for module in (a, b))
    return _alike(first, second)


def _alike(first: Tensor, second: Tensor) -> bool:
    scale = max(1.0, float(first.abs().max()))
    return first.shape == second.shape and float((first - second).abs().max()) <= _TOLERANCE * scale


def _check(
    model: nn.Module, graph: ServingGraph, sizes: list[tuple[int, int]], condition: NormStatistics | None
) -> None:
    """Compare the graph with the model, both with the values of a condition; the model is left unchanged.

    Raises:
        ExportError: They differ, or the graph does not run.
    """
    before = capture(model, learnt=condition.learnt if condition else ())
    try:
        if condition is not None:
            apply(model, condition)
        run = ENGINES["onnxruntime"].session(graph.of(as_arrays(condition) if condition else None), 1)
        for size in sizes:
            x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
            with torch.inference_mode():
                expected = heads_of(coarse(model)(x))[0]
                found = torch.from_numpy(run(x.numpy()))
            # The graph leaves it to who decides to enlarge the logits.
            if not _alike(resize(expected, size), resize(found, size)):
                raise ExportError("its results in onnxruntime differ from the model's")
    except GraphError as error:
        raise ExportError(str(error)) from error
    finally:
        apply(model, before)


def _place(graph: bytes, values: bytes) -> tuple[int, int] | None:
    """Offset and number of float32 values in the graph; None where the exporter has left them out.

    Raises:
        ExportError: They occur more than once.
    """
    offset = graph.find(values)
    if offset < 0:
        return None
    if graph.find(values, offset + 1) >= 0:
        raise ExportError("values that conditions set cannot be told from others in the graph")
    return offset, len(values) // 4


def _distinct(model: nn.Module) -> nn.Module:
    """Copy a model so that all tensors that conditions may set differ: the exporter merges equal ones."""
    copied = copy.deepcopy(model)
    dice = torch.Generator().manual_seed(0)
    parameters: Mapping[str, Tensor] = dict(copied.named_parameters())
    with torch.no_grad():
        learnt = [parameters[name] for name in own_parameters(copied)]
        for tensors in (*tensors_of_norms(copied), learnt):
            for tensor in tensors:
                # Variances must be positive; the other tensors may be, too.
                tensor.copy_(torch.rand(tensor.shape, generator=dice) + 0.5)
    return copied
