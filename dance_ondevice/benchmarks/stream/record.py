"""What one run of one variant left behind, as written to a file."""

from __future__ import annotations

import msgspec

__all__ = ["Promotion", "RunRecord", "Spending"]


class Spending(msgspec.Struct, frozen=True):
    """CPU seconds that something cost at a frame of the stream (counted from 0)."""

    frame: int
    workload: str
    cpu_seconds: float


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate that was judged.

    Attributes:
        frame: of the stream, when its round began.
        segment: that was on.
        condition: whose weights it is to replace.
        outcome: "promoted", "rejected" or "rolled back".
        before: mIoU on the segment's own test before it; None where that was not measured.
        after: with it, or as it would have been.
        why: in words.
    """

    frame: int
    segment: str
    condition: str
    outcome: str
    before: float | None
    after: float | None
    why: str = ""

    @property
    def bad(self) -> bool:
        """Whether it went live although it is worse on the segment's own test."""
        if self.outcome != "promoted" or self.before is None or self.after is None:
            return False
        return self.after < self.before


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One variant, one seed.

    Attributes:
        variant: its name.
        seed: of everything random in it.
        tasks: names of the tests.
        learnt: index of the task that each row comes after.
        rows: mIoU on each test after the base model's training and after each segment.
        curve: faded prequential mIoU after each frame; empty for a variant that is not on the stream.
        spent: what cost what and when.
        promotions: candidates, in order.
        condition_bytes: bytes that each condition keeps beside the base weights.
        opened: frame at which each condition was opened.
        training_macs: multiply-accumulates of its training.
        peak_bytes: peak resident memory of the process by then.
    """

    variant: str
    seed: int
    tasks: tuple[str, ...]
    learnt: tuple[int, ...]
    rows: tuple[tuple[float, ...], ...]
    curve: tuple[float, ...] = ()
    spent: tuple[Spending, ...] = ()
    promotions: tuple[Promotion, ...] = ()
    condition_bytes: dict[str, int] = {}
    opened: dict[str, int] = {}
    training_macs: int = 0
    peak_bytes: int = 0

    @property
    def cpu_seconds(self) -> float:
        """All that it spent."""
        return sum(one.cpu_seconds for one in self.spent)
