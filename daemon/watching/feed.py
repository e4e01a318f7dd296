"""Receives the masks that a daemon publishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import msgspec
import numpy as np
import zmq
from numpy.typing import NDArray

from dance_ondevice.daemon.security.curve import ClientCurve, join
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.images.codec import decode_label
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.overlay import Colour

__all__ = ["Classes", "MaskFeed", "SeenMask"]

_HELD = 8
_MASKS, _CLASSES = b"mask/", b"classes/"


@dataclass(frozen=True, kw_only=True)
class SeenMask:
    """One published mask; ``mask`` is (H, W) uint8 class ids."""

    id: str
    camera: str
    captured_at: float
    version: str
    mask: NDArray[np.uint8]


@dataclass(frozen=True)
class Classes:
    """The names and colours of the ids in a camera's masks."""

    names: tuple[str, ...]
    palette: tuple[Colour, ...]


class _MaskHeader(msgspec.Struct):
    id: str
    camera: str
    captured_at: float
    model_version: str = ""


class _ClassesHeader(msgspec.Struct):
    camera: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]


class MaskFeed:
    """Subscribes to a daemon's masks; a context manager for one thread.

    Attributes:
        classes: Classes by camera, as far as they were published.
        damaged: Number of messages that were not masks.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        camera: str | None = None,
        curve: ClientCurve | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect; the publisher may start later.

        Raises:
            zmq.ZMQError: The endpoint is malformed.
        """
        self._camera = camera
        self._monotonic = monotonic
        self.classes: dict[str, Classes] = {}
        self.damaged = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        try:
            self._socket.setsockopt(zmq.RCVHWM, _HELD)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.IPV6, "[" in endpoint)
            if curve is not None:
                join(self._socket, curve.pair, curve.server_key)
            for topic in (_MASKS, _CLASSES):
                self._socket.subscribe(topic + (camera or "").encode())
            self._socket.connect(endpoint)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> MaskFeed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)

    def next(self, seconds: float) -> SeenMask | None:
        """The next of the newest waiting masks; None if none comes within a number of seconds."""
        deadline = self._monotonic() + seconds
        found = None
        while (left := deadline - self._monotonic()) > 0:
            if not self._socket.poll(0 if found is not None else max(1, int(left * 1000))):
                break
            seen = self._take(self._socket.recv_multipart())
            found = seen or found
        return found

    def _take(self, parts: Sequence[bytes]) -> SeenMask | None:
        try:
            if parts[0].startswith(_CLASSES) and len(parts) >= 2:
                told = decode(parts[1], _ClassesHeader)
                self.classes[told.camera] = Classes(told.classes, told.palette)
                return None
            _, header, png = parts
            about = decode(header, _MaskHeader)
            if self._camera not in (None, about.camera):
                return None  # ZMQ compares only the beginning of topics
            return SeenMask(
                id=about.id,
                camera=about.camera,
                captured_at=about.captured_at,
                version=about.model_version,
                mask=decode_label(png),
            )
        except (ValueError, DocumentError, ImageError):
            self.damaged += 1
            return None
