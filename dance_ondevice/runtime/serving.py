"""Servers: objects that segment frames with the values of any condition, for one thread at a time.

``GraphServer`` runs a version's graph without torch; ``torch_server.TorchServer`` is the last resort.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.conditions.arrays import ConditionArrays
from dance_ondevice.images.masks import Decide, Prediction, decide_on_half_grid
from dance_ondevice.models.card import Normalisation
from dance_ondevice.runtime.engines import Device, EngineName, first_line
from dance_ondevice.runtime.frames import FrameInput
from dance_ondevice.runtime.graph_file import ServingGraph
from dance_ondevice.runtime.sessions import OFTEN, Sessions

__all__ = ["GraphServer", "Server", "WithFallback"]

log = logging.getLogger(__name__)


class Server(Protocol):
    """Segments frames with one version of the model."""

    @property
    def name(self) -> EngineName:
        """Name of the engine that runs the model."""

    @property
    def device(self) -> Device:
        """Where it runs the model."""

    def prepare(self, name: str, condition: ConditionArrays | None) -> None:
        """Make ready for a condition, so that its first frame does not wait for it.

        Args:
            name: Name of the condition.
            condition: Its values, which may have been estimated again; None for the model's own.
        """

    def predict(
        self,
        image: NDArray[np.uint8],
        name: str,
        condition: ConditionArrays | None,
        out_size: Sequence[int],
    ) -> Prediction:
        """Segment a frame (h, w, 3) uint8 BGR with the values of a condition, into a mask of ``out_size``."""

    def forget(self, name: str) -> None:
        """Free what is kept for a condition that no longer exists."""


class GraphServer:
    """Server that runs a version's graph, with a session for each of the latest conditions."""

    def __init__(
        self,
        graph: ServingGraph,
        engine: EngineName,
        normalisation: Normalisation,
        *,
        threads: int,
        by: Decide = decide_on_half_grid,
        device: Device = "cpu",
        often: int = OFTEN,
    ) -> None:
        """Prepare without opening a session.

        Args:
            graph: The version's graph.
            engine: One of ``ENGINES``.
            normalisation: The version's normalisation.
            threads: Number of CPU threads of a forward pass.
            by: Makes a mask of coarse logits.
            device: Where the engine runs.
            often: Frames of one size after which it gets a session of its own.
        """
        self._sessions = Sessions(graph, engine, threads=threads, device=device, often=often)
        self._by = by
        self._input = FrameInput(normalisation)

    @property
    def name(self) -> EngineName:
        """Name of the engine that runs the model."""
        return self._sessions.engine

    @property
    def device(self) -> Device:
        """Where the engine runs."""
        return self._sessions.device

    def prepare(self, name: str, condition: ConditionArrays | None) -> None:
        """Open the session of a condition, see ``Server``.

        Raises:
            GraphError: The values are of other layers, or the engine refuses the graph.
        """
        self._sessions.prepare(name, condition)

    def predict(
        self,
        image: NDArray[np.uint8],
        name: str,
        condition: ConditionArrays | None,
        out_size: Sequence[int],
    ) -> Prediction:
        """Segment a frame, see ``Server``.

        Raises:
            GraphError: See ``prepare``.
            Exception: Whatever the engine raises during the pass.
        """
        frame = self._input.of(image)
        run = self._sessions.run_of(name, condition, (frame.shape[2], frame.shape[3]))
        (coarse,) = run(frame)
        height, width = image.shape[:2]
        rows, columns = out_size
        span = (frame.shape[2] / height * rows, frame.shape[3] / width * columns)
        return self._by(coarse, span, (rows, columns))

    def forget(self, name: str) -> None:
        """Close the sessions of a condition that no longer exists."""
        self._sessions.forget(name)


class WithFallback:
    """Server that another one replaces for good once it fails, for example on a frame of another size."""

    def __init__(self, server: Server, instead: Callable[[], Server]) -> None:
        """``instead`` makes the server that takes over."""
        self._server = server
        self._instead: Callable[[], Server] | None = instead

    @property
    def name(self) -> EngineName:
        """Name of the engine that runs the model now."""
        return self._server.name

    @property
    def device(self) -> Device:
        """Where it runs the model now."""
        return self._server.device

    def prepare(self, name: str, condition: ConditionArrays | None) -> None:
        """Make ready for a condition, see ``Server``."""
        try:
            self._server.prepare(name, condition)
        except Exception as error:  # the engines raise classes of their own, derived from Exception alone
            self._replace(error).prepare(name, condition)

    def predict(
        self,
        image: NDArray[np.uint8],
        name: str,
        condition: ConditionArrays | None,
        out_size: Sequence[int],
    ) -> Prediction:
        """Segment a frame, see ``Server``."""
        try:
            return self._server.predict(image, name, condition, out_size)
        except Exception as error:  # as above
            return self._replace(error).predict(image, name, condition, out_size)

    def forget(self, name: str) -> None:
        """Free what is kept for a condition that no longer exists."""
        self._server.forget(name)

    def _replace(self, error: Exception) -> Server:
        if self._instead is None:
            raise error
        log.warning("%s left reason=%s", self._server.name, first_line(error))
        self._server, self._instead = self._instead(), None
        return self._server
