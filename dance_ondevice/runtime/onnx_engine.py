"""Running a model in onnxruntime instead of torch: the same weights, with any normalisation statistics."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from dance_ondevice.conditions.learning import own_parameters
from dance_ondevice.conditions.statistics import FIELDS, NormStatistics, capture, tensors_of_norms
from dance_ondevice.models.forward import STRIDE
from dance_ondevice.models.layers import resize
from dance_ondevice.runtime.formats import ExportError, MissingPackage, first_line, to_onnx

__all__ = ["OnnxEngine", "agree", "graph_of"]

#: Largest allowed difference of a logit to torch, as a share of the largest logit.
_TOLERANCE = 1e-3


def graph_of(model: nn.Module, size: tuple[int, int]) -> bytes:
    """Export a model for ``OnnxEngine``, which fills in the values of its batch norms and late layers.

    Args:
        model: Model in eval mode, on the CPU, that no other thread runs.
        size: Size (height, width) of typical images.

    Raises:
        ExportError: A package is not installed, or the model cannot be exported.
    """
    height, width = (side + -side % STRIDE for side in size)
    # Batch norms stay apart here, so that their statistics can be exchanged; the runtime merges them.
    try:
        return to_onnx(_distinct(model), (height, width), fold=False, upsample=False)
    except MissingPackage:
        raise
    except ExportError:  # the model takes images of one size only
        return to_onnx(_distinct(model), (height, width), any_size=False, fold=False, upsample=False)


class OnnxEngine:
    """Engine that makes a runnable module of one model for each set of statistics."""

    def __init__(self, model: nn.Module, graph: bytes, *, threads: int) -> None:
        """Read the model's graph.

        Args:
            model: Model in eval mode, on the CPU.
            graph: Graph of the model from ``graph_of``.
            threads: Number of threads that a forward pass may use.

        Raises:
            MissingPackage: onnx or onnxruntime is not installed.
            ExportError: The graph cannot be read.
        """
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise MissingPackage("onnx and onnxruntime", "dance-ondevice[onnx]") from error
        self._runtime = onnxruntime
        try:
            self._proto = onnx.load_from_string(graph)
        except Exception as error:  # protobuf's own, derived from Exception alone
            raise ExportError(f"the graph cannot be read: {first_line(error)}") from error
        self._own = _by_name(capture(model, affine=True, learnt=own_parameters(model)))
        self._to_tensor = onnx.numpy_helper.from_array
        self._tensors = {tensor.name: tensor for tensor in self._proto.graph.initializer}
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.enable_cpu_mem_arena = False
        self._options.log_severity_level = 3
        # A thread that spins while it waits costs joules, and occupies a core that other threads need.
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def module(self, statistics: NormStatistics) -> nn.Module:
        """Make a module that is called like the model and uses these statistics and learnt parameters.

        Raises:
            ExportError: The statistics are of other layers, or the runtime refuses the graph.
        """
        for name, values in (self._own | _by_name(statistics)).items():
            self._set(f"model.{name}", values)
        try:
            session = self._runtime.InferenceSession(
                self._proto.SerializeToString(), self._options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises classes of its own, derived from Exception alone
            raise ExportError(f"onnxruntime refuses the model: {first_line(error)}") from error
        return _Session(session).eval()

    def _set(self, name: str, values: Tensor) -> None:
        tensor = self._tensors.get(name)
        if tensor is None:
            return  # it belongs to a part that inference does not run, such as an auxiliary head
        if tuple(tensor.dims) != tuple(values.shape):
            raise ExportError(f"{name} has {list(values.shape)} values, the graph {list(tensor.dims)}")
        tensor.CopyFrom(self._to_tensor(values.detach().contiguous().numpy(), name))


def _by_name(statistics: NormStatistics) -> dict[str, Tensor]:
    """Return every tensor by the name that it has in the model."""
    found = {
        f"{layer}.{field}": tensor
        for layer, tensors in statistics.layers.items()
        for field, tensor in zip(FIELDS, tensors, strict=False)
    }
    return found | dict(statistics.learnt)


def _distinct(model: nn.Module) -> nn.Module:
    """Copy a model so that all tensors that conditions may set differ: the exporter merges equal ones."""
    copied = copy.deepcopy(model)
    dice = torch.Generator().manual_seed(0)
    parameters = dict(copied.named_parameters())
    with torch.no_grad():
        learnt = [parameters[name] for name in own_parameters(copied)]
        for tensors in (*tensors_of_norms(copied), learnt):
            for tensor in tensors:
                # Variances must be positive; the other tensors may be, too.
                tensor.copy_(torch.rand(tensor.shape, generator=dice) + 0.5)
    return copied


def agree(a: nn.Module, b: nn.Module, x: Tensor) -> bool:
    """Return whether two modules compute the same for (1, 3, H, W), apart from rounding."""
    with torch.inference_mode():
        first, second = (resize(_head(module(x)), x.shape[2:]) for module in (a, b))
    scale = max(1.0, float(first.abs().max()))
    return first.shape == second.shape and float((first - second).abs().max()) <= _TOLERANCE * scale


def _head(found: Tensor | tuple[Tensor, ...]) -> Tensor:
    return found if isinstance(found, Tensor) else found[0]


class _Session(nn.Module):
    """A session of onnxruntime as a module that maps images to logits."""

    def __init__(self, session: object) -> None:
        super().__init__()
        self._session = session
        # Callers find a model's device by its parameters.
        self.anchor = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        found: np.ndarray = self._session.run(None, {"image": x.contiguous().numpy()})[0]  # type: ignore[attr-defined]
        return torch.from_numpy(found)
