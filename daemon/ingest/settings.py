"""The interfaces that the ingest thread needs of the store and of the counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

from dance_ondevice.daemon.store.samples import (
    LabelEmpty,
    LabelMismatch,
    NewSample,
    OtherPicture,
    Stored,
    StoreError,
    StoreFull,
    UnknownSample,
)
from dance_ondevice.daemon.wire.messages import Reason, WireError
from dance_ondevice.policies.stream.data_slimming import Decision

_STORE_REASONS: tuple[tuple[type[StoreError], Reason], ...] = (
    (StoreFull, "store_full"),
    (UnknownSample, "unknown_sample"),
    (LabelMismatch, "label_size"),
    (LabelEmpty, "label_empty"),
    (OtherPicture, "captured_at"),
    (StoreError, "store_failed"),
)


class SampleStore(Protocol):
    """The store, as the ingest thread uses it."""

    def add_sample(self, sample: NewSample) -> Future[Stored]:
        """Store a frame; the future resolves once it is durable."""

    def add_label(self, sample_id: str, png: bytes, classes: Sequence[int], source: str) -> Future[None]:
        """Label a sample; the future resolves once the label is durable."""

    def after_groups(self, call: Callable[[], None]) -> None:
        """Have a function called, on the store's thread, after the futures of each group are resolved."""


class IngestInstruments(Protocol):
    """The counters and histograms, as the ingest thread uses them."""

    def frame(self, camera: str, outcome: str) -> None:
        """Count one frame as kept, dropped, rejected or overflow."""

    def dated(self, camera: str, ahead: float) -> None:
        """A good frame was dated so many seconds ahead of its arrival, negative for behind."""

    def decided(self, camera: str, decision: Decision) -> None:
        """A frame was stored or left out."""

    def standing(self, camera: str, frames: int) -> None:
        """So many frames in a row, the last one included, have repeated what was kept."""

    def score(self, camera: str, value: float) -> None:
        """Record a frame's complexity, 0 to 1."""

    def scale(self, camera: str, scale: float) -> None:
        """Record the scale of an accepted frame."""

    def ingest_seconds(self, value: float) -> None:
        """Record the seconds from taking a frame off the queue to its decision, waiting included."""

    def frame_cpu(self, stage: str, seconds: float) -> None:
        """Record the CPU seconds of one thread for a stage of one frame: measure, decide or encode."""

    def forget(self, camera: str) -> None:
        """A camera's name was forgotten: its series go."""

    def sender_changed(self, camera: str) -> None:
        """Frames of a camera came from a sender again after another one's."""

    def refused(self, reason: str) -> None:
        """Count one message, frame or label, that was refused."""

    def refused_frame(self, camera: str, text: str) -> None:
        """Take note of what the sender of a refused frame was told; both are as the sender sent them."""


def not_stored(error: StoreError) -> WireError:
    """The refusal of a message that the store could not keep, with the reason's code."""
    reason = next(reason for kind, reason in _STORE_REASONS if isinstance(error, kind))
    return WireError(reason, f"not stored: {error}")
