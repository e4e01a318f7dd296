"""Engine for inference: torch with merged layers, or onnxruntime if it is installed and faster."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.models.forward import STRIDE
from dance_ondevice.runtime.folding import Folded
from dance_ondevice.runtime.formats import ExportError, first_line
from dance_ondevice.runtime.heap import trim
from dance_ondevice.runtime.onnx_engine import OnnxEngine, agree

__all__ = ["Engine", "Runners"]

log = logging.getLogger(__name__)

Engine = Literal["auto", "torch", "onnxruntime"]

#: Number of forward passes for comparing the two engines.
_PASSES = 5
#: Number of sessions of conditions to keep: each holds another copy of the weights, and its own threads. A
#: further session is made when a frame needs it.
_SESSIONS = 3


class Runners:
    """Runner of one model with any set of normalisation statistics, for one thread at a time."""

    def __init__(
        self,
        model: nn.Module,
        engine: Engine,
        *,
        size: tuple[int, int],
        threads: int,
        clock: Callable[[], float],
        graph: bytes | None = None,
    ) -> None:
        """Prepare the engine, and check that it computes the same as the model.

        Args:
            model: Model in eval mode, with its own statistics; only this object changes them from now on.
            engine: Engine to use; ``auto`` takes onnxruntime if there is a graph and it is faster.
            size: Size (height, width) of typical images.
            threads: Number of threads for onnxruntime; torch has its own setting.
            clock: Clock in seconds, to measure which engine is faster.
            graph: Graph of the model from ``graph_of``; None runs the model in torch.
        """
        self._model = model
        self._size = (size[0] + -size[0] % STRIDE, size[1] + -size[1] % STRIDE)
        #: Merged layers; None if onnxruntime runs the model, since they need the memory of the weights again.
        self._folded: Folded | None = None
        self._onnx: OnnxEngine | None = None
        self._sessions: dict[str, tuple[NormStatistics, nn.Module]] = {}
        self._applied: NormStatistics | None = None
        if graph is not None and engine != "torch":
            self._onnx = self._usable(graph, engine, threads, clock)
        if self._onnx is None and self._folded is None:
            self._folded = self._merged()

    @property
    def name(self) -> Literal["torch", "onnxruntime"]:
        """Return the name of the engine that runs the model."""
        return "onnxruntime" if self._onnx else "torch"

    def module(self, name: str, statistics: NormStatistics) -> nn.Module:
        """Return the module to run for a condition; it is valid until the next call.

        Args:
            name: Name of the condition.
            statistics: Statistics of the condition, which may have been estimated again.
        """
        if self._onnx is not None:
            kept = self._sessions.pop(name, None)
            if kept is not None and kept[0] is statistics:
                self._sessions[name] = kept  # the latest is the last in order
                return kept[1]
            try:
                module = self._session(self._onnx, statistics)
            except ExportError as error:
                log.warning("onnxruntime left because=%s", error)
                self._onnx = None
                self._sessions.clear()
            else:
                # A strong reference would form a cycle: after a swap, the old version's sessions would stay
                # until the next garbage collection.
                owner = weakref.ref(self)
                guarded = _Guarded(module, lambda error: _instead(owner, error, name, statistics))
                self._sessions[name] = (statistics, guarded)
                while len(self._sessions) > _SESSIONS:
                    del self._sessions[next(iter(self._sessions))]
                trim()  # making a session takes several times the memory that it keeps
                return guarded
        if self._folded is None:
            self._folded = self._merged()
        if self._applied is not statistics:
            conditions.apply(self._model, statistics)
            self._folded.refresh()
            self._applied = statistics
        return self._folded.model

    def _session(self, engine: OnnxEngine, statistics: NormStatistics) -> nn.Module:
        """Make a session; one with a condition's own layers is compared, since the exporter may rename some.

        Raises:
            ExportError: The session does not compute the same as the model.
        """
        module = engine.module(statistics)
        if not statistics.learnt:
            return module
        before = conditions.capture(self._model, learnt=statistics.learnt)
        conditions.apply(self._model, statistics)
        try:
            same = agree(self._model, module, self._image())
        finally:
            conditions.apply(self._model, before)
        if not same:
            raise ExportError("with the layers of a condition its results differ from the model's")
        return module

    def _give_up(self, error: Exception, name: str, statistics: NormStatistics) -> nn.Module:
        """Switch to torch for good: the runtime failed on a frame, for example one of another size."""
        log.warning("onnxruntime left because=%s", first_line(error))
        self._onnx = None
        self._sessions.clear()
        return self.module(name, statistics)

    def forget(self, name: str) -> None:
        """Remove the session of a condition that no longer exists."""
        self._sessions.pop(name, None)

    def _image(self) -> torch.Tensor:
        return torch.rand(1, 3, *self._size).to(memory_format=torch.channels_last)

    def _merged(self) -> Folded:
        folded = Folded(self._model)
        if agree(self._model, folded.model, self._image()):
            return folded
        log.warning("layers not merged because=%s", "the copy does not compute the same")
        return Folded(self._model, merge=False)

    def _usable(
        self, graph: bytes, engine: Engine, threads: int, clock: Callable[[], float]
    ) -> OnnxEngine | None:
        """Return an engine that computes the same as the model and, for ``auto``, is faster than torch.

        If it is not faster, the merged layers that it was compared with are kept.
        """
        x = self._image()
        try:
            made = OnnxEngine(self._model, graph, threads=threads)
            module = made.module(conditions.capture(self._model))
            same = agree(self._model, module, x)
        except Exception as error:  # onnxruntime raises classes of its own, derived from Exception alone
            log.warning("onnxruntime not used because=%s", first_line(error))
            return None
        if not same:
            log.warning("onnxruntime not used because=%s", "its results differ from the model's")
            return None
        if engine == "auto":
            log.info("engines are compared, which takes seconds; inference.engine names one instead")
            folded = self._merged()
            theirs, ours = (_seconds(one, x, clock) for one in (module, folded.model))
            log.info("engines compared onnxruntime_ms=%.1f torch_ms=%.1f", 1e3 * theirs, 1e3 * ours)
            if theirs >= ours:
                self._folded = folded
                return None
        return made


def _instead(
    owner: weakref.ref[Runners], error: Exception, name: str, statistics: NormStatistics
) -> nn.Module:
    """Return the module that the owner of a failed session runs instead."""
    runners = owner()
    if runners is None:
        raise error
    return runners._give_up(error, name, statistics)


class _Guarded(nn.Module):
    """Module that runs another module, and permanently replaces it once it fails."""

    def __init__(self, module: nn.Module, give_up: Callable[[Exception], nn.Module]) -> None:
        super().__init__()
        self.module = module
        self._give_up = give_up
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            found: torch.Tensor = self.module(x)
        except Exception as error:  # onnxruntime raises classes of its own, derived from Exception alone
            self.module = self._give_up(error)
            found = self.module(x)
        return found


def _seconds(module: nn.Module, x: torch.Tensor, clock: Callable[[], float]) -> float:
    found = []
    with torch.inference_mode():
        for _ in range(_PASSES):
            started = clock()
            module(x)
            found.append(clock() - started)
    return min(found)
