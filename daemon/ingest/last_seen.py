"""The newest frame of each camera with its mask, for people who watch; nothing is held while nobody does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.daemon.ingest.mailbox import PendingFrame

__all__ = ["Judged", "LastSeen", "Segmented", "View"]

T = TypeVar("T")

#: Seconds after which frames are let go when nobody has asked for one.
_WATCHED_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The decision on a camera's last frame: whether it was kept, and why."""

    id: str
    kept: bool
    score: float
    scale: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """The mask of a frame; ``mask`` is (H, W) uint8 class ids at the frame's native size."""

    mask: NDArray[np.uint8]
    confidence: float
    condition: str
    version: str


@dataclass(frozen=True, kw_only=True)
class View:
    """A frame that people can look at; ``segmented`` is None where no model has segmented it."""

    frame: PendingFrame
    segmented: Segmented | None = None


class LastSeen:
    """Holds one frame a camera, by reference and only while somebody watches; any thread may call it."""

    def __init__(self, max_cameras: int = 64, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Start empty; of more than ``max_cameras`` cameras, the one seen longest ago is let go."""
        self._most = max_cameras
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._judged: dict[str, Judged] = {}
        self._views: dict[str, View] = {}

    @property
    def watched(self) -> bool:
        """Whether somebody has watched within the last seconds; frames are held only then."""
        return self._monotonic() < self._until

    def watch(self) -> None:
        """Hold frames for some more seconds."""
        self._until = self._monotonic() + _WATCHED_SECONDS

    def judged(self, camera: str, verdict: Judged, frame: PendingFrame | None, *, segments: bool) -> None:
        """Record the decision on a frame.

        Args:
            camera: The camera's name.
            verdict: The decision.
            frame: The frame; None if it is too small to be shown, or if nobody watches.
            segments: Whether a model will segment it: the camera's view then changes with its mask.
        """
        with self._lock:
            self._put(self._judged, camera, verdict)
            if not self.watched:
                self._views.clear()
            elif frame is not None and (not segments or camera not in self._views):
                self._put(self._views, camera, View(frame=frame))

    def segmented(self, frame: PendingFrame, found: Segmented) -> None:
        """Record a frame's mask."""
        if self.watched:
            with self._lock:
                self._put(self._views, frame.camera, View(frame=frame, segmented=found))

    def forget(self, camera: str) -> None:
        """Let go of a camera that was removed."""
        with self._lock:
            self._judged.pop(camera, None)
            self._views.pop(camera, None)

    def verdicts(self) -> dict[str, Judged]:
        """The last decision by camera."""
        with self._lock:
            return dict(self._judged)

    def views(self) -> dict[str, View]:
        """What can be shown of each camera; somebody watches from now on."""
        self.watch()
        with self._lock:
            return dict(self._views)

    def view(self, camera: str) -> View | None:
        """What can be shown of a camera; None where no frame has come since somebody watches."""
        return self.views().get(camera)

    def _put(self, table: dict[str, T], camera: str, value: T) -> None:
        table.pop(camera, None)
        if len(table) >= self._most:
            table.pop(next(iter(table)))
        table[camera] = value
