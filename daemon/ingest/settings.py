"""What the ingest thread is given: its settings, and what it asks of the store and of the counters."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from dance_ondevice.daemon.store.samples import (
    LabelMismatch,
    NewSample,
    Stored,
    StoreError,
    StoreFull,
    UnknownSample,
)
from dance_ondevice.daemon.wire.messages import Reason, WireError

_STORE_REASONS: tuple[tuple[type[StoreError], Reason], ...] = (
    (StoreFull, "store_full"),
    (UnknownSample, "unknown_sample"),
    (LabelMismatch, "label_size"),
    (StoreError, "store_failed"),
)


class SampleStore(Protocol):
    """What ingest asks of the store."""

    def add_sample(self, sample: NewSample) -> Future[Stored]:
        """Keep a frame; the future is done once it is durable."""

    def add_label(self, sample_id: str, png: bytes, classes: Sequence[int], source: str) -> Future[None]:
        """Label a sample; the future is done once the label is durable."""


class IngestInstruments(Protocol):
    """What ingest counts."""

    def frame(self, camera: str, outcome: str) -> None:
        """One frame became kept, dropped, rejected or overflow."""

    def score(self, camera: str, value: float) -> None:
        """A frame's complexity, 0 to 1."""

    def scale(self, camera: str, scale: float) -> None:
        """An accepted frame got this scale."""

    def ingest_seconds(self, value: float) -> None:
        """Seconds from taking a frame off the queue to its decision, other frames' turns included."""

    def refused(self, reason: str) -> None:
        """One message, frame or label, was refused."""


@dataclass(frozen=True, kw_only=True)
class IngestSettings:
    """The ``[ingest]`` section.

    Attributes:
        bind: endpoints for REQ and DEALER senders.
        subscribe: PUB senders to connect to.
        subscribe_bind: endpoints that PUB senders connect to.
        max_message_bytes: most bytes of one message, all parts together.
        max_pixels: most pixels of one image.
        max_header_bytes: most bytes of a message's JSON header.
        queue_frames: most messages that wait; when another comes, one of whoever has most of them goes.
        max_cameras: most cameras that are told apart; frames of further ones are refused.
        workers: threads that decode and encode.
        publishers: with CURVE, the names of the clients behind ``subscribe``, in its order.
    """

    bind: tuple[str, ...] = ("tcp://127.0.0.1:5555",)
    subscribe: tuple[str, ...] = ()
    subscribe_bind: tuple[str, ...] = ()
    max_message_bytes: int = 33_554_432
    max_pixels: int = 33_554_432
    max_header_bytes: int = 65_536
    queue_frames: int = 64
    max_cameras: int = 64
    workers: int = 2
    publishers: tuple[str, ...] = ()

    @property
    def queue_bytes(self) -> int:
        """Most bytes that wait in the queue, and again those that wait for the store."""
        return 2 * self.max_message_bytes


def not_stored(error: StoreError) -> WireError:
    """The refusal of a message that the store could not keep."""
    reason = next(reason for kind, reason in _STORE_REASONS if isinstance(error, kind))
    return WireError(reason, f"not stored: {error}")
