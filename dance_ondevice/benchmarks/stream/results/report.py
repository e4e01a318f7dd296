"""What ``bench stream`` found: each variant's figures, as means over seeds with their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dance_ondevice.benchmarks.stream.settings import Settings

__all__ = ["RECOVERED", "Recovery", "SeedReport", "StreamReport", "VariantReport"]

#: A variant has recovered when it keeps this share of what the best one gains over the frozen model.
RECOVERED = 0.5


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """After one drift: frames and joules until recovered, see the definitions; None where it never was."""

    frames: int | None
    joules: float | None


@dataclass(frozen=True, kw_only=True)
class SeedReport:
    """One seed of one variant; figures as in ``VariantReport``.

    Attributes:
        matrix: R, mIoU on each test after the base training and after each segment.
        decisions: what the gates said of each candidate, in words.
    """

    seed: int
    final_miou: Mapping[str, float]
    prequential_miou: float | None
    average: float
    backward_transfer: float | None
    forgetting: float | None
    joules: float
    cpu_seconds: float
    cpu_seconds_by_workload: Mapping[str, float]
    training_macs: int
    matrix: Sequence[Sequence[float]]
    decisions: Sequence[str]
    recovery: Mapping[str, Recovery]
    curve: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class VariantReport:
    """One variant; every figure is the mean over its seeds.

    Attributes:
        words: what it does.
        final_miou: test -> mIoU at the end of the stream.
        prequential_miou: mean over the frames of the faded prequential mIoU; None off the stream.
        average, backward_transfer, forgetting, worst_old: see ``ScoreMatrix``; None where there is no stream.
        joules: modelled, from CPU seconds: training, labelling, estimation of statistics and gates.
        gain_per_kilojoule: points of the average over the frozen model's, for 1000 J.
        recovery: segment -> mean over the seeds that recovered; None where one did not.
        promotions, rejections, rollbacks, bad_promotions: sums over the seeds.
        condition_bytes: what each condition keeps beside the base weights.
        peak_bytes: highest resident memory of the measuring process by the end of its runs.
        spread: figure -> sample standard deviation over the seeds; empty with one seed.
        seeds: one by one.
    """

    words: str
    final_miou: Mapping[str, float]
    prequential_miou: float | None
    average: float
    backward_transfer: float | None
    forgetting: float | None
    worst_old: float | None
    joules: float
    cpu_seconds: float
    gain_per_kilojoule: float | None
    recovery: Mapping[str, Recovery]
    promotions: int
    rejections: int
    rollbacks: int
    bad_promotions: int
    condition_bytes: Mapping[str, int]
    peak_bytes: int
    spread: Mapping[str, float]
    seeds: Sequence[SeedReport]


@dataclass(frozen=True, kw_only=True)
class StreamReport:
    """One run of the benchmark.

    Attributes:
        stream: its name.
        seed: the first one.
        seeds: all of them.
        segments: (name, task, number of frames), in order.
        base: architecture and version of the base model.
        settings: the same for all variants.
        variants: by name.
        peak_bytes: highest resident memory of the measuring process.
        plot: file name of the picture beside the result; "" for none.
    """

    stream: str
    seed: int
    seeds: Sequence[int]
    segments: Sequence[tuple[str, str, int]]
    base: str
    settings: Settings
    variants: Mapping[str, VariantReport]
    peak_bytes: int = 0
    plot: str = ""
