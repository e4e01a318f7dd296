"""How a result of ``bench labelling`` is shown on the page of results."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from dance_ondevice.benchmarks.labelling.report import Arm, LabellingReport
from dance_ondevice.benchmarks.markdown import table

#: Aimed for: shares of the gain of a tenth of the frames with whole labels, by taps; and of that at random.
SHARES, OF_RANDOM = {"30": 0.7, "100": 0.95}, 1.3
_WAYS = {
    "taps": "taps, frames that the service asks for",
    "random": "taps, frames at random",
    "labelled_frames": "whole labels, frames that the service asks for",
}


def lines(report: LabellingReport) -> list[str]:
    """The lines of the result's section, as Markdown."""
    last = ', the last of which is "All else is right"' if report.confirms else ""
    kept = (
        " Where a label says nothing the round keeps the live model's answers, by a weight of "
        f"{report.unlabelled:g}."
        if report.unlabelled
        else ""
    )
    part = (
        f" A round on taps goes {report.interpolation:.0%} of the way from the live weights to the trained "
        "ones, one on whole labels all of it."
        if report.interpolation < 1
        else ""
    )
    return [
        f"{report.base}, {report.frames_of}; {report.frames} frames to choose from. A simulated person "
        f"gives the largest wrong region its true class, by at most {report.taps_a_frame} taps in a "
        f"frame{last}; then one round of {report.steps} steps of at most {report.batch_size} images."
        f"{kept}{part} "
        f"mIoU before: {report.frozen:.3f}. Points are hundredths of mIoU over that, means of "
        f"{len(report.seeds)} "
        f"seed{'' if len(report.seeds) == 1 else 's'}, the sample standard deviation behind ±.",
        "",
        *table(
            ("labels", "frames", "labelled pixels", "of them right", "gain, points", "CPU seconds"),
            [_row(report, of) for of in _by_way(report.arms).values()],
        ),
        "",
        *_targets(report),
    ]


def _row(report: LabellingReport, arms: Sequence[Arm]) -> tuple[str, ...]:
    first = arms[0]
    gains = [100 * (arm.miou - report.frozen) for arm in arms]
    spread = f" ± {stdev(gains):.1f}" if len(gains) > 1 else ""
    return (
        f"{first.amount} {_WAYS[first.way]}",
        f"{mean(arm.frames for arm in arms):.0f}",
        f"{mean(arm.labelled for arm in arms):.0%}",
        f"{mean(arm.right for arm in arms):.0%}",
        f"{mean(gains):+.1f}{spread}",
        f"{mean(arm.cpu_seconds for arm in arms):.0f}",
    )


def _by_way(arms: Sequence[Arm]) -> dict[tuple[str, str], list[Arm]]:
    found: dict[tuple[str, str], list[Arm]] = {}
    for arm in arms:
        found.setdefault((arm.way, arm.amount), []).append(arm)
    return found


def _targets(report: LabellingReport) -> list[str]:
    gain = report.gain
    (whole,) = gain.labelled_frames.values()
    rows = [
        (
            f"{taps} taps, of the gain of whole labels",
            f"{share:.0%}",
            *_reached(gain.taps[taps], whole, share),
        )
        for taps, share in SHARES.items()
        if taps in gain.taps
    ] + [
        (
            f"{taps} taps, asked for against at random",
            f"{OF_RANDOM:.1f} x",
            *_reached(gain.taps[taps], gain.random[taps], OF_RANDOM),
        )
        for taps in gain.taps
        if taps in gain.random
    ]
    return table(("aimed for", "at least", "measured", "reached"), rows)


def _reached(gain: float, other: float, least: float) -> tuple[str, str]:
    """A ratio of gains, and whether it suffices; a ratio to nothing gained says nothing."""
    if other <= 0:
        return f"{100 * gain:+.1f} against {100 * other:+.1f} points", "yes" if gain > 0 else "no"
    return f"{gain / other:.2f}", "yes" if gain >= least * other else "no"
