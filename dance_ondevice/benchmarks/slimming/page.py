"""The section of the results page for ``bench slimming``: targets over all results, and a table for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dance_ondevice.benchmarks.markdown import number, table
from dance_ondevice.benchmarks.slimming.report import DENSE, Reached, SlimmingReport, VariantReport

#: Targets relative to dense: share of training saved, share of inference saved, gain in mIoU.
TARGET_TRAINING, TARGET_INFERENCE, TARGET_GAIN = 0.77, 0.56, 0.007
_OURS = "dance+"


def targets(reports: Mapping[str, SlimmingReport]) -> list[str]:
    """A table with one row for each result: savings and gain of DANCE+ against dense, beside the targets.

    Args:
        reports: Reports by file name.
    """
    rows = [
        _target_row(name, report, report.variants[DENSE], ours)
        for name, report in reports.items()
        if DENSE in report.variants and (ours := report.variants.get(_OURS)) is not None
    ]
    if not rows:
        return []
    return [
        "## DANCE+ against its targets",
        "",
        f"Aimed for: at least {TARGET_TRAINING:.0%} of dense's training and {TARGET_INFERENCE:.0%} of its",
        f"inference saved, with an mIoU that is higher by {TARGET_GAIN * 100:.1f} points or more. Savings",
        "are in seconds of the processor, and in brackets in multiply-accumulates; as served means by the",
        "engine that the service would choose, against dense as served and, in brackets, dense in torch.",
        "",
        *table(
            ("result", "training saved", "inference saved", "as served", "mIoU gain, points", "reached"),
            rows,
        ),
        "",
    ]


def section(report: SlimmingReport) -> tuple[str, list[str]]:
    """Title and Markdown lines of one result."""
    splits = list(next(iter(report.variants.values())).miou)
    columns = (
        "variant", *(f"mIoU {split}" for split in splits), "train s", "of dense", "MACs of dense", "infer ms",
        "of dense", "infer MACs", "parameters", "peak", *(f"dense's {split} mIoU at" for split in splits),
    )  # fmt: skip
    classes = [
        (name, *(number(v.iou_per_class[split].get(name), ".3f") for v in report.variants.values()))
        for split in splits[-1:]
        for name in next(iter(report.variants.values())).iou_per_class[split]
    ]
    unit = "CPU seconds" if report.device == "cpu" else "GPU seconds"
    return f"Slimming, {report.architecture} on {report.dataset}, {report.setting}, seed {report.seed}", [
        f"{report.protocol.capitalize()} protocol, {report.epochs} epochs of dense, {report.precision}, "
        f"{report.size[1]}x{report.size[0]}; train s are {unit} of training, choosing samples and slimming "
        "included. The last columns tell at which share of dense's training a variant first scored dense's",
        "final mIoU, at one of the few points where scores were taken.",
        "",
        *table(columns, [_row(name, variant, splits) for name, variant in report.variants.items()]),
        "",
        *(f"- {name}: {variant.about}." for name, variant in report.variants.items()),
        *(f"- {name}: left out, {reason}." for name, reason in report.left_out.items()),
        "",
        *table((f"IoU of class, {splits[-1]}", *report.variants), classes),
    ]


def _row(name: str, variant: VariantReport, splits: Sequence[str]) -> tuple[str, ...]:
    return (
        name,
        *(f"{variant.miou[split]:.4f}" for split in splits),
        f"{variant.train_seconds:.0f}",
        number(variant.ratios.get("train_seconds"), ".1%"),
        number(variant.ratios.get("train_macs"), ".1%"),
        f"{variant.infer_ms:.1f}",
        number(variant.ratios.get("infer_ms"), ".1%"),
        f"{variant.infer_macs / 1e6:.0f} M",
        f"{variant.parameters / 1e3:.0f} k",
        f"{variant.peak_bytes / 1e6:.0f} MB",
        *(_reached(variant.reaches_dense.get(split)) for split in splits),
    )


def _target_row(
    name: str, report: SlimmingReport, dense: VariantReport, ours: VariantReport
) -> tuple[str, ...]:
    training, inference = 1 - ours.ratios["train_seconds"], 1 - ours.ratios["infer_ms"]
    met = [
        word
        for word, reached in (
            ("training", training >= TARGET_TRAINING),
            ("inference", inference >= TARGET_INFERENCE),
            *((f"mIoU {split}", gain >= TARGET_GAIN) for split, gain in ours.miou_gain.items()),
        )
        if reached
    ]
    return (
        f"[{report.architecture}, {report.setting}, {report.protocol}, seed {report.seed}]({name})",
        f"{training:.1%} ({1 - ours.ratios['train_macs']:.1%})",
        f"{inference:.1%} ({1 - ours.ratios['infer_macs']:.1%})",
        _served(dense, ours),
        ", ".join(f"{split} {100 * gain:+.1f}" for split, gain in ours.miou_gain.items()),
        ", ".join(met) or "none",
    )


def _served(dense: VariantReport, ours: VariantReport) -> str:
    if ours.infer_cpu_ms_served is None or dense.infer_cpu_ms_served is None:
        return "-"
    saved = 1 - ours.infer_cpu_ms_served / dense.infer_cpu_ms_served
    return f"{saved:.1%} ({1 - ours.infer_cpu_ms_served / dense.infer_ms:.1%})"


def _reached(found: Reached | None) -> str:
    return "-" if found is None else f"{found.of_dense:.0%}"
