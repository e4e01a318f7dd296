"""The cameras that are told apart: a bounded table of names, each with what is known of its stream."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlite_utils import Database

from dance_ondevice.daemon.wire.messages import WireError
from dance_ondevice.policies.stream.camera_names import KnownName, gives_way
from dance_ondevice.policies.stream.stream_state import StreamState, initial_state

log = logging.getLogger(__name__)

#: Seconds between two log lines about names that were forgotten.
_LOG_EVERY = 10.0


@dataclass(slots=True)
class Camera:
    """A camera's stream.

    Attributes:
        state: what its scores are ranked among.
        next_seq: the number of its next frame, where its sender gives none.
        stored: whether samples of it are kept.
    """

    state: StreamState
    next_seq: int | None = None
    stored: bool = False
    sender: str = ""
    frames: int = 0
    heard: float = 0.0


class Cameras:
    """Cameras by name; any thread may call."""

    def __init__(
        self,
        most: int,
        *,
        on_forgotten: Callable[[str], None] = lambda _name: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without any.

        Args:
            most: names that are told apart.
            on_forgotten: called with each name that gave way or was forgotten by hand.
            monotonic: seconds.
        """
        self._most = most
        self._on_forgotten = on_forgotten
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._cameras: dict[str, Camera] = {}
        self._logged_at = -_LOG_EVERY

    def __contains__(self, name: str) -> bool:
        return name in self._cameras

    def remember(self, stored: Iterable[tuple[str, int]]) -> None:
        """Know cameras of which samples are kept, as (name, samples): they come before new names."""
        with self._lock:
            for name, samples in list(stored)[: self._most]:
                # Who sends them will be seen; until then each is somebody's.
                self._cameras[name] = Camera(
                    initial_state(name),
                    stored=True,
                    sender=f"stored {name}",
                    frames=samples,
                    heard=self._monotonic(),
                )

    def admit(self, name: str, sender: str) -> Camera:
        """The camera of a good frame.

        Raises:
            WireError: its name is new, there are too many, and none of them may be forgotten for it.
        """
        with self._lock:
            camera = self._cameras.get(name)
            if camera is None:
                if len(self._cameras) >= self._most:
                    self._make_way(name, sender)
                camera = self._cameras[name] = Camera(initial_state(name))
            camera.sender, camera.heard = sender, self._monotonic()
            camera.frames += 1
            return camera

    def forget(self, name: str) -> None:
        """Free a name, as after the removal of its samples, whether or not it is known."""
        with self._lock:
            self._cameras.pop(name, None)
        self._on_forgotten(name)

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
        self._on_forgotten(going)
        if now - self._logged_at >= _LOG_EVERY:
            self._logged_at = now
            log.warning(
                "camera forgotten name=%s for=%s because=more than ingest.max_cameras = %d names; "
                "give the frames of one camera one name",
                going,
                name,
                self._most,
            )


def stored_cameras(db: Database) -> list[tuple[str, int]]:
    """Cameras of which samples are kept, and how many: those with several first, then the latest."""
    query = (
        "SELECT camera, COUNT(*) AS n FROM samples GROUP BY camera "
        "ORDER BY n > 1 DESC, MAX(received_at) DESC, camera"
    )
    return [(str(name), int(count)) for name, count in db.execute(query)]
