"""The table of known cameras, of limited length: for each name the state of its stream."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from sqlite_utils import Database

from dance_ondevice.daemon.wire.messages import WireError
from dance_ondevice.policies.stream.camera_names import KnownName, gives_way
from dance_ondevice.policies.stream.stream_state import StreamState, initial_state

log = logging.getLogger(__name__)

#: Seconds between two log lines about forgotten names.
_LOG_EVERY = 10.0
#: Number of earlier senders of a camera that are remembered, and of changes back to one of them that are
#: logged: a sender that starts anew is another one each time, and does not come back.
_EARLIER, _TURNS = 4, 3


class CameraInstruments(Protocol):
    """What is recorded of names and their senders."""

    def forget(self, camera: str) -> None:
        """A name was removed, for a new one or by ``Cameras.forget``."""

    def sender_changed(self, camera: str) -> None:
        """Frames came from a sender again after another one's, as where two send under one name."""


@dataclass(slots=True)
class Camera:
    """A camera's stream.

    Attributes:
        state: State of data slimming, with the earlier scores among which a new score is ranked.
        next_seq: Number of the next frame, for senders that give none.
        stored: Whether the store has samples of this camera.
        sender: Sender of the last good frame.
        earlier: Senders of good frames before it, the latest last.
        turns: How often frames came from an earlier sender again.
        frames: Number of good frames; begins with the number of stored samples.
        heard: Monotonic seconds of the last good frame, or of the start.
    """

    state: StreamState
    next_seq: int | None = None
    stored: bool = False
    sender: str = ""
    earlier: tuple[str, ...] = ()
    turns: int = 0
    frames: int = 0
    heard: float = 0.0


class Cameras:
    """Cameras by name; any thread may call."""

    def __init__(
        self,
        most: int,
        instruments: CameraInstruments | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create an empty table.

        Args:
            most: Largest number of names.
            instruments: Record names that are removed and senders that take turns.
            monotonic: Clock in seconds.
        """
        self._most = most
        self._instruments = instruments
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._cameras: dict[str, Camera] = {}
        self._logged_at = -_LOG_EVERY

    def __contains__(self, name: str) -> bool:
        return name in self._cameras

    def remember(self, stored: Iterable[tuple[str, int]]) -> None:
        """Enter cameras with stored samples, (name, number of samples); they have priority over new names."""
        with self._lock:
            for name, samples in list(stored)[: self._most]:
                # Their senders are unknown until a frame comes; until then each has a sender of its own.
                self._cameras[name] = Camera(
                    initial_state(name),
                    stored=True,
                    sender=f"stored {name}",
                    frames=samples,
                    heard=self._monotonic(),
                )

    def admit(self, name: str, sender: str) -> Camera:
        """Return the camera of a good frame; a new one is entered, in place of another if the table is full.

        Raises:
            WireError: The name is new, the table is full, and none of its names may be forgotten.
        """
        with self._lock:
            camera = self._cameras.get(name)
            if camera is None:
                if len(self._cameras) >= self._most:
                    self._make_way(name, sender)
                camera = self._cameras[name] = Camera(initial_state(name))
            if sender != camera.sender:
                self._change_sender(name, camera, sender)
            camera.heard = self._monotonic()
            camera.frames += 1
            return camera

    def forget(self, name: str) -> None:
        """Remove a name if it is there, for instance after its samples were removed."""
        with self._lock:
            self._cameras.pop(name, None)
        self._tell_forgotten(name)

    def _tell_forgotten(self, name: str) -> None:
        if self._instruments is not None:
            self._instruments.forget(name)

    def _change_sender(self, name: str, camera: Camera, sender: str) -> None:
        """Record another sender of a camera's frames, and that it is an earlier one, if so."""
        came_back = sender in camera.earlier
        others = [each for each in (*camera.earlier, camera.sender) if each not in ("", sender)]
        camera.sender, camera.earlier = sender, tuple(others[-_EARLIER:])
        if not came_back:
            return
        camera.turns += 1
        if self._instruments is not None:
            self._instruments.sender_changed(name)
        if camera.turns == _TURNS:
            log.warning(
                "several senders take turns under one camera name, and their frames are ranked and judged as "
                "one camera's: give each a name of its own camera=%s",
                name,
            )

    def _make_way(self, name: str, sender: str) -> None:
        known = [
            KnownName(each, camera.sender, camera.frames, camera.stored, camera.heard)
            for each, camera in self._cameras.items()
        ]
        now = self._monotonic()
        going = gives_way(known, sender, now)
        if going is None:
            raise WireError(
                "cameras",
                f"{self._most} other cameras send already (ingest.max_cameras); "
                "give the frames of one camera one name",
            )
        del self._cameras[going]
        self._tell_forgotten(going)
        if now - self._logged_at >= _LOG_EVERY:
            self._logged_at = now
            log.warning(
                "camera forgotten name=%s for=%s reason=more than ingest.max_cameras = %d names; "
                "give the frames of one camera one name",
                going,
                name,
                self._most,
            )


def stored_cameras(db: Database) -> list[tuple[str, int]]:
    """Return (camera, number of samples) of the store: those with several samples first, then the latest."""
    query = (
        "SELECT camera, COUNT(*) AS n FROM samples GROUP BY camera "
        "ORDER BY n > 1 DESC, MAX(received_at) DESC, camera"
    )
    return [(str(name), int(count)) for name, count in db.execute(query)]
