"""From runs to a report: means over seeds, their spread, and what compares a run with the frozen model's."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dance_ondevice.benchmarks.stream.record import Promotion, RunRecord
from dance_ondevice.benchmarks.stream.results.report import (
    RECOVERED,
    Recovery,
    SeedReport,
    StreamReport,
    VariantReport,
)
from dance_ondevice.benchmarks.stream.settings import Settings
from dance_ondevice.benchmarks.stream.streams import Stream
from dance_ondevice.benchmarks.stream.variants import VARIANTS, Variant
from dance_ondevice.training.continual import ScoreMatrix, gain_per_kilojoule, recovery_frame

__all__ = ["make_report"]


@dataclass(frozen=True, kw_only=True)
class _Context:
    """What one run is compared with."""

    stream: Stream
    frozen: RunRecord | None
    goals: Mapping[str, float]
    settings: Settings


def make_report(
    stream: Stream,
    variants: Sequence[Variant],
    runs: Mapping[str, Sequence[RunRecord]],
    *,
    seeds: Sequence[int],
    base: str,
    settings: Settings,
) -> StreamReport:
    """Put the runs together.

    Args:
        stream: that was lived.
        variants: in the order to report them.
        runs: of each variant, one a seed.
        seeds: that were asked for.
        base: words for the base model.
        settings: of the runs.
    """
    frozen = runs["frozen"][0] if runs.get("frozen") else None
    context = _Context(stream=stream, frozen=frozen, goals=_goals(stream, runs, frozen), settings=settings)
    reports = {
        variant.name: _variant(variant, runs[variant.name], context)
        for variant in variants
        if runs.get(variant.name)
    }
    return StreamReport(
        stream=stream.name,
        seed=seeds[0],
        seeds=tuple(seeds),
        segments=tuple((s.name, s.task, len(s.frames)) for s in stream.segments),
        base=base,
        settings=settings,
        variants=reports,
        peak_bytes=max(report.peak_bytes for report in reports.values()),
    )


def _variant(
    variant: Variant,
    runs: Sequence[RunRecord],
    context: _Context,
) -> VariantReport:
    frozen = context.frozen
    seeds = [_seed(run, context) for run in runs]
    worst = None if variant.joint else [_matrix(run).worst_old for run in runs]
    joules = statistics.fmean(one.joules for one in seeds)
    average = statistics.fmean(one.average for one in seeds)
    gain = average - statistics.fmean(frozen.rows[-1]) if frozen else 0.0
    outcomes = [promotion.outcome for run in runs for promotion in run.promotions]
    return VariantReport(
        words=variant.words,
        final_miou={task: statistics.fmean(one.final_miou[task] for one in seeds) for task in runs[0].tasks},
        prequential_miou=_mean([one.prequential_miou for one in seeds]),
        average=average,
        backward_transfer=_mean([one.backward_transfer for one in seeds]),
        forgetting=_mean([one.forgetting for one in seeds]),
        worst_old=_mean(worst) if worst else None,
        joules=joules,
        cpu_seconds=statistics.fmean(one.cpu_seconds for one in seeds),
        gain_per_kilojoule=gain_per_kilojoule(gain, joules),
        recovery={
            name: Recovery(
                frames=_rounded(_mean([one.recovery[name].frames for one in seeds])),
                joules=_mean([one.recovery[name].joules for one in seeds]),
            )
            for name in seeds[0].recovery
        },
        promotions=outcomes.count("promoted"),
        rejections=outcomes.count("rejected"),
        rollbacks=outcomes.count("rolled back"),
        bad_promotions=sum(promotion.bad for run in runs for promotion in run.promotions),
        condition_bytes=runs[0].condition_bytes,
        peak_bytes=max(run.peak_bytes for run in runs),
        spread=_spread(seeds),
        seeds=seeds,
    )


def _seed(run: RunRecord, context: _Context) -> SeedReport:
    on_stream = bool(run.curve)
    matrix = _matrix(run)
    by_workload: dict[str, float] = {}
    for one in run.spent:
        by_workload[one.workload] = by_workload.get(one.workload, 0.0) + one.cpu_seconds
    return SeedReport(
        seed=run.seed,
        final_miou=dict(zip(run.tasks, run.rows[-1], strict=True)),
        prequential_miou=statistics.fmean(run.curve) if on_stream else None,
        average=matrix.average,
        backward_transfer=matrix.backward_transfer if on_stream else None,
        forgetting=matrix.forgetting if on_stream else None,
        joules=run.cpu_seconds * context.settings.watts,
        cpu_seconds=run.cpu_seconds,
        cpu_seconds_by_workload=by_workload,
        training_macs=run.training_macs,
        matrix=run.rows,
        decisions=[_in_words(promotion) for promotion in run.promotions],
        recovery={
            name: _recovery(run, context, name, (first, last))
            for name, first, last in _drifts(context.stream)
            if context.frozen is not None and on_stream
        },
        curve=[round(value, 5) for value in run.curve],
    )


def _in_words(promotion: Promotion) -> str:
    place = f"{promotion.segment}, frame {promotion.frame}, {promotion.condition}"
    told = f"{place}: {promotion.outcome}"
    if promotion.before is not None and promotion.after is not None:
        would = "" if promotion.outcome == "promoted" else "would have been "
        told += f", {would}{promotion.before:.4f} -> {promotion.after:.4f} on the segment's test"
    return f"{told} ({promotion.why})" if promotion.why else told


def _matrix(run: RunRecord) -> ScoreMatrix:
    return ScoreMatrix(run.tasks, run.learnt, run.rows)


def _drifts(stream: Stream) -> list[tuple[str, int, int]]:
    """(segment, its first frame, the one after its last) of each segment."""
    found, start = [], 0
    for segment in stream.segments:
        found.append((segment.name, start, start + len(segment.frames)))
        start += len(segment.frames)
    return found


def _goals(
    stream: Stream, runs: Mapping[str, Sequence[RunRecord]], frozen: RunRecord | None
) -> dict[str, float]:
    """Segment -> gain over the frozen model that counts as recovered: a share of the best at its end."""
    goals = {}
    foreign = {variant.name for variant in VARIANTS if variant.pretrained}
    ours = [run for name, each in runs.items() if name not in foreign for run in each]
    for name, _, last in _drifts(stream):
        gains = [
            run.curve[last - 1] - frozen.curve[last - 1] for run in ours if run.curve and frozen is not None
        ]
        goals[name] = RECOVERED * max([0.0, *gains])
    return goals


def _recovery(run: RunRecord, context: _Context, segment: str, span: tuple[int, int]) -> Recovery:
    (first, last), goal, frozen = span, context.goals[segment], context.frozen
    frames = None
    if goal > 0 and frozen is not None:
        frames = recovery_frame(run.curve[first:last], frozen.curve[first:last], goal)
    if frames is None:
        return Recovery(frames=None, joules=None)
    spent = sum(one.cpu_seconds for one in run.spent if first <= one.frame <= first + frames)
    return Recovery(frames=frames, joules=spent * context.settings.watts)


def _spread(seeds: Sequence[SeedReport]) -> dict[str, float]:
    if len(seeds) < 2:
        return {}
    figures: dict[str, list[float | None]] = {
        f"final_miou {task}": [one.final_miou[task] for one in seeds] for task in seeds[0].final_miou
    }
    for name in ("prequential_miou", "average", "backward_transfer", "forgetting", "joules", "cpu_seconds"):
        figures[name] = [getattr(one, name) for one in seeds]
    return {
        name: statistics.stdev(known)
        for name, values in figures.items()
        if len(known := [value for value in values if value is not None]) > 1
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """None where any is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) and known else None


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)
