"""The open sessions of a version's graph: for each of the latest conditions, and for sizes that come often.

A graph takes images of any size, and computes the sizes of what is inside each time. A session that knows the
size has done so when it is opened, which saves a fifth of a mask's CPU time; it holds the weights once more.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

from dance_ondevice.conditions.arrays import ConditionArrays
from dance_ondevice.runtime.engines import ENGINES, Device, EngineName, Run
from dance_ondevice.runtime.graph_file import GraphError, ServingGraph
from dance_ondevice.runtime.heap import trim

__all__ = ["OFTEN", "Sessions"]

log = logging.getLogger(__name__)

#: Number of sessions of conditions to keep for images of any size. A further one is opened when it is needed.
_ANY_SIZE = 3
#: Number of sessions that each know their size: as many as there are scales to store frames at by default.
_ONE_SIZE = 3
#: Frames of one size after which it gets a session of its own.
OFTEN = 16
#: A session that knows its size makes way for another one after so many frames without its own.
_UNUSED = 512
#: Number of conditions and sizes whose frames are counted at a time.
_COUNTED = 64

Size = tuple[int, int]


@dataclass
class _Open:
    condition: ConditionArrays | None
    run: Run
    used: int = 0


class Sessions:
    """Sessions of one graph in one engine, for one thread at a time."""

    def __init__(
        self,
        graph: ServingGraph,
        engine: EngineName,
        *,
        threads: int,
        device: Device = "cpu",
        often: int = OFTEN,
    ) -> None:
        """Open nothing yet.

        Args:
            graph: The graph of a version.
            engine: One of ``ENGINES``.
            threads: Number of CPU threads of a forward pass.
            device: Where the engine runs.
            often: Frames of one size after which it gets a session of its own.
        """
        self.engine = engine
        self.device = device
        self._graph = graph
        self._threads = threads
        self._often = often
        self._any_size: dict[str, _Open] = {}
        self._one_size: dict[tuple[str, Size], _Open] = {}
        self._frames = 0
        self._came: Counter[tuple[str, Size]] = Counter()
        #: False once the engine refuses a graph of one size.
        self._fixes = True

    def prepare(self, name: str, condition: ConditionArrays | None) -> None:
        """Open the session of a condition for images of any size.

        Raises:
            GraphError: The values are of other layers, or the engine refuses the graph.
        """
        kept = self._any_size.pop(name, None)
        if kept is None or kept.condition is not condition:
            kept = self._opened(condition, None)
        self._any_size[name] = kept  # the latest is the last in order
        while len(self._any_size) > _ANY_SIZE:
            del self._any_size[next(iter(self._any_size))]

    def run_of(self, name: str, condition: ConditionArrays | None, size: Size) -> Run:
        """The session for an image of a size (height, width), in a condition.

        Raises:
            GraphError: See ``prepare``.
        """
        self._frames += 1
        key = name, size
        kept = self._one_size.get(key)
        if kept is not None and kept.condition is not condition:  # estimated again
            del self._one_size[key]
            kept = None
        if kept is None and self._deserves(key):
            kept = self._fixed(key, condition)
        if kept is None:
            self.prepare(name, condition)
            return self._any_size[name].run
        kept.used = self._frames
        return kept.run

    def forget(self, name: str) -> None:
        """Close the sessions of a condition that no longer exists."""
        self._any_size.pop(name, None)
        for key in [key for key in self._one_size if key[0] == name]:
            del self._one_size[key]

    def _deserves(self, key: tuple[str, Size]) -> bool:
        """Count a frame; returns whether it should have a session that knows its size, and may."""
        if len(self._came) >= _COUNTED:  # cameras may send any size
            self._came.clear()
        self._came[key] += 1
        if not self._fixes or self._came[key] < self._often:
            return False
        if len(self._one_size) < _ONE_SIZE:
            return True
        oldest = min(self._one_size, key=lambda each: self._one_size[each].used)
        if self._frames - self._one_size[oldest].used <= _UNUSED:
            return False
        del self._one_size[oldest]
        return True

    def _fixed(self, key: tuple[str, Size], condition: ConditionArrays | None) -> _Open | None:
        del self._came[key]
        try:
            self._one_size[key] = self._opened(condition, key[1])
        except GraphError as error:
            log.warning("no session for one size reason=%s", error)
            self._fixes = False
            return None
        return self._one_size[key]

    def _opened(self, condition: ConditionArrays | None, size: Size | None) -> _Open:
        graph = self._graph.of(condition)
        run = ENGINES[self.engine].session(graph, self._threads, self.device, size)
        trim()  # opening a session takes several times the memory that it keeps
        return _Open(condition, run)
