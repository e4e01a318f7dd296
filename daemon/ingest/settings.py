"""What the ingest thread asks of the store and of the counters."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from dance_ondevice.daemon.store.samples import (
    LabelEmpty,
    LabelMismatch,
    NewSample,
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

    def dated(self, camera: str, ahead: float) -> None:
        """A good frame was dated so many seconds ahead of its arrival, negative for behind."""

    def decided(self, camera: str, decision: Decision, standing: int) -> None:
        """A frame was decided on; so many in a row, it included, have repeated what was kept."""

    def score(self, camera: str, value: float) -> None:
        """A frame's complexity, 0 to 1."""

    def scale(self, camera: str, scale: float) -> None:
        """An accepted frame got this scale."""

    def ingest_seconds(self, value: float) -> None:
        """Seconds from taking a frame off the queue to its decision, other frames' turns included."""

    def forget(self, camera: str) -> None:
        """A camera's name was forgotten: its series go."""

    def refused(self, reason: str) -> None:
        """One message, frame or label, was refused."""


def not_stored(error: StoreError) -> WireError:
    """The refusal of a message that the store could not keep."""
    reason = next(reason for kind, reason in _STORE_REASONS if isinstance(error, kind))
    return WireError(reason, f"not stored: {error}")
