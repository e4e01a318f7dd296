"""Record of one run of one variant, as written to a file."""

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
        frame: Frame of the stream at which its round began.
        segment: Segment of the stream at that frame.
        condition: Condition whose weights it would replace.
        outcome: Outcome: "promoted", "rejected" or "rolled back".
        before: mIoU on the segment's own test before it; None if it was not measured.
        after: mIoU with it, even if it was rejected.
        why: Reason in words.
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
        """Return whether it was promoted although it is worse on the segment's own test."""
        if self.outcome != "promoted" or self.before is None or self.after is None:
            return False
        return self.after < self.before


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One variant, one seed.

    Attributes:
        variant: Name of the variant.
        seed: Seed of everything random in it.
        tasks: Names of the tests.
        learnt: Index of the task that was learnt before each row.
        rows: mIoU on each test after the base model's training and after each segment.
        curve: Faded prequential mIoU after each frame; empty for a variant that is not on the stream.
        spent: CPU seconds by kind of work and frame.
        promotions: Candidates, in order.
        condition_bytes: Bytes that each condition stores beside the base weights.
        opened: Frame at which each condition was opened.
        training_macs: Multiply-accumulates of its training.
        peak_bytes: Peak resident memory of the process by then.
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
        """Return all CPU seconds that it spent."""
        return sum(one.cpu_seconds for one in self.spent)
