"""What runs a model for inference: torch with merged layers, or onnxruntime where it is there and quicker."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from dance_ondevice import conditions
from dance_ondevice.conditions import NormStatistics
from dance_ondevice.models.forward import STRIDE
from dance_ondevice.runtime.folding import Folded
from dance_ondevice.runtime.formats import ExportError, MissingPackage, first_line
from dance_ondevice.runtime.onnx_engine import OnnxEngine, agree, graph_of

__all__ = ["Engine", "Runners"]

log = logging.getLogger(__name__)

Engine = Literal["auto", "torch", "onnxruntime"]

#: Forward passes that the two are compared by.
_PASSES = 5
#: Sessions of conditions that are kept: each holds the weights once more, 12 to 15 MB of the default model's,
#: and threads of its own. Another one is made in some forty milliseconds.
_SESSIONS = 3


class Runners:
    """One model, to be run with one set of normalisation statistics or another; for one thread at a time."""

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
        """Prepare, and see that what was prepared computes what the model does.

        Args:
            model: in eval mode, with its own statistics; only this object changes them from now on.
            engine: ``auto`` takes onnxruntime where it is installed, takes the model, and is quicker.
            size: (height, width) of usual images.
            threads: for onnxruntime; torch has its own setting.
            clock: seconds, to see which is quicker.
            graph: what ``graph_of`` made of the model earlier, if it is at hand.
        """
        self._model = model
        self._folded = Folded(model)
        self._onnx: OnnxEngine | None = None
        self._sessions: dict[str, tuple[NormStatistics, nn.Module]] = {}
        self._applied: NormStatistics | None = None
        height, width = (side + -side % STRIDE for side in size)
        x = torch.rand(1, 3, height, width).to(memory_format=torch.channels_last)
        if not agree(model, self._folded.model, x):
            log.warning("layers not merged because=%s", "the copy does not compute the same")
            self._folded = Folded(model, merge=False)
        self._x = x
        #: The model's graph where it had to be exported: worth keeping for the next time.
        self.exported: bytes | None = None
        if engine != "torch":
            self._try_onnx(engine, x, threads, clock, graph)

    @property
    def name(self) -> Literal["torch", "onnxruntime"]:
        """Which of the two runs the model."""
        return "onnxruntime" if self._onnx else "torch"

    def module(self, name: str, statistics: NormStatistics) -> nn.Module:
        """What to run for a condition; it is good until the next call.

        Args:
            name: of the condition.
            statistics: its own, which may have been estimated anew.
        """
        if self._onnx is not None:
            kept = self._sessions.pop(name, None)
            if kept is not None and kept[0] is statistics:
                self._sessions[name] = kept  # the latest stands last
                return kept[1]
            try:
                module = self._session(self._onnx, statistics)
            except ExportError as error:
                log.warning("onnxruntime left because=%s", error)
                self._onnx = None
                self._sessions.clear()
            else:
                # A strong reference would close a ring: after a swap, the old version's sessions would stay
                # until the garbage collector comes by.
                owner = weakref.ref(self)
                guarded = _Guarded(module, lambda error: _instead(owner, error, name, statistics))
                self._sessions[name] = (statistics, guarded)
                while len(self._sessions) > _SESSIONS:
                    del self._sessions[next(iter(self._sessions))]
                return guarded
        if self._applied is not statistics:
            conditions.apply(self._model, statistics)
            self._folded.refresh()
            self._applied = statistics
        return self._folded.model

    def _session(self, engine: OnnxEngine, statistics: NormStatistics) -> nn.Module:
        """A session; one with layers of its own is compared, for the exporter may have renamed some.

        Raises:
            ExportError: there is none that computes what the model does.
        """
        module = engine.module(statistics)
        if not statistics.learnt:
            return module
        before = conditions.capture(self._model, learnt=statistics.learnt)
        conditions.apply(self._model, statistics)
        try:
            same = agree(self._model, module, self._x)
        finally:
            conditions.apply(self._model, before)
        if not same:
            raise ExportError("with the layers of a condition it does not compute what the model does")
        return module

    def _give_up(self, error: Exception, name: str, statistics: NormStatistics) -> nn.Module:
        """Torch from now on: the runtime failed on a frame, of a size that its graph cannot do, say."""
        log.warning("onnxruntime left because=%s", first_line(error))
        self._onnx = None
        self._sessions.clear()
        return self.module(name, statistics)

    def forget(self, name: str) -> None:
        """A condition is no more."""
        self._sessions.pop(name, None)

    def _try_onnx(
        self,
        engine: Engine,
        x: torch.Tensor,
        threads: int,
        clock: Callable[[], float],
        graph: bytes | None,
    ) -> None:
        try:
            found = self._onnx_engine(x, threads, graph)
        except MissingPackage as error:
            if engine == "onnxruntime":
                log.warning("onnxruntime not used because=%s", error)
            return
        except Exception as error:  # the model may be the user's own, and must serve all the same
            log.warning("onnxruntime not used because=%s", first_line(error))
            return
        if found is None:
            log.warning("onnxruntime not used because=%s", "it does not compute what the model does")
            return
        made, module = found
        if engine == "auto":
            theirs, ours = (_seconds(one, x, clock) for one in (module, self._folded.model))
            log.info("engines compared onnxruntime_ms=%.1f torch_ms=%.1f", 1e3 * theirs, 1e3 * ours)
            if theirs >= ours:
                return
        self._onnx = made

    def _onnx_engine(
        self, x: torch.Tensor, threads: int, graph: bytes | None
    ) -> tuple[OnnxEngine, nn.Module] | None:
        """An engine that computes what the model does, from a graph at hand if that is of this model.

        Raises:
            ExportError: a package is not installed, or the model cannot be exported.
        """
        if graph is not None:
            try:
                found = self._compared(graph, x, threads)
            except MissingPackage:
                raise
            except Exception as error:  # of other layers or damaged: onnxruntime raises classes of its own
                log.debug("graph not used because=%s", first_line(error))
                found = None
            if found is not None:
                return found
            log.warning("graph exported again because=%s", "the one at hand is not of this model")
        graph = graph_of(self._model, (x.shape[2], x.shape[3]))
        found = self._compared(graph, x, threads)
        if found is not None:
            self.exported = graph
        return found

    def _compared(self, graph: bytes, x: torch.Tensor, threads: int) -> tuple[OnnxEngine, nn.Module] | None:
        made = OnnxEngine(self._model, graph, threads=threads)
        module = made.module(conditions.capture(self._model))
        return (made, module) if agree(self._model, module, x) else None


def _instead(
    owner: weakref.ref[Runners], error: Exception, name: str, statistics: NormStatistics
) -> nn.Module:
    """What the owner of a session that failed runs in its place."""
    runners = owner()
    if runners is None:
        raise error
    return runners._give_up(error, name, statistics)


class _Guarded(nn.Module):
    """Runs a module; when it fails, what it is given instead, for good."""

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
