"""What ``bench first-round`` measures, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelScore:
    """One model on the measured images; ``miou`` as a fraction of 1, MACs per image at ``macs_at``."""

    version: str
    miou: float
    iou_per_class: Mapping[str, float | None]
    macs: int
    parameters: int
    macs_at: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class FirstRoundReport:
    """What one round changed.

    Attributes:
        dataset, streamed, measured_on: which images.
        base: how the base model was made, from its card.
        before, after: the live model's score on ``measured_on``.
        outcome, reasons: the gate's verdict.
        frames: of the stream, by outcome.
        round: the round's own record: steps, seconds, joules, mIoU at the gate.
        round_cpu_seconds: of the trainer process.
        round_precision: what the trainer computed in; empty when the candidate was not promoted.
    """

    dataset: str
    streamed: str
    measured_on: str
    base: Mapping[str, Any]
    before: ModelScore
    after: ModelScore
    outcome: str
    reasons: Sequence[str]
    frames: Mapping[str, int]
    round: Mapping[str, Any]
    round_cpu_seconds: float
    round_precision: str = ""
