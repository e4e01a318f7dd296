"""The result of ``bench blend``, and its section on the page of results."""

from __future__ import annotations

from dataclasses import dataclass

from dance_ondevice.benchmarks.markdown import number, table


@dataclass(frozen=True, kw_only=True)
class AtBlend:
    """One blend of measured and own statistics on one drive.

    Attributes:
        miou: mIoU on the images that are scored, in [0, 1].
        confidence: Mean confidence on them, in [0, 1].
        agreement: Share of pixels of some measured images that keep their class in the mirrored image, by
            which the service chooses; None for a blend that it does not try.
    """

    miou: float
    confidence: float
    agreement: float | None


@dataclass(frozen=True, kw_only=True)
class Drive:
    """One drive.

    Attributes:
        measured: Number of unlabelled images that statistics are measured on.
        scored: Number of later images that are scored.
        blends: Results by blend; "0" are the model's own statistics, "most" is what so many images allow, "1"
            are the measured ones alone.
        chosen: The blend that the service chooses.
    """

    measured: int
    scored: int
    blends: dict[str, AtBlend]
    chosen: str


@dataclass(frozen=True, kw_only=True)
class BlendReport:
    """Everything that one call measured.

    Attributes:
        dataset: Name of the data set.
        split: Split that the drives are of.
        model: Architecture and number of parameters.
        drives: Results by drive.
    """

    dataset: str
    split: str
    model: str
    drives: dict[str, Drive]


def section(report: BlendReport) -> tuple[str, list[str]]:
    """Title and Markdown lines of a result."""
    keys = list(next(iter(report.drives.values())).blends)
    rows = [
        (name, *(number(drive.blends[key].miou, ".3f") for key in keys), drive.chosen)
        for name, drive in report.drives.items()
    ]
    count = len(report.drives)
    means = tuple(
        number(sum(drive.blends[key].miou for drive in report.drives.values()) / count, ".3f") for key in keys
    )
    chosen = sum(drive.blends[drive.chosen].miou for drive in report.drives.values()) / count
    signs = [
        (
            name,
            *(number(drive.blends[key].agreement, ".4f") for key in keys),
            *(number(drive.blends[key].confidence, ".4f") for key in keys),
        )
        for name, drive in report.drives.items()
    ]
    return f"Statistics without labels, {report.model} on {report.dataset}", [
        f"mIoU on later images of each drive of {report.split}, by the weight of the statistics that were",
        "measured on its first ones without labels (most: what so many images allow, n / (n + 8)), and the",
        "weight that the service chooses, by agreement alone.",
        "",
        *table(("drive", *keys, "chosen"), [*rows, ("mean", *means, number(chosen, ".3f"))]),
        "",
        "What can be known without a label: agreement with the mirrored image on measured images, and",
        "confidence on the scored ones.",
        "",
        *table(("drive", *(f"agreement {k}" for k in keys), *(f"confidence {k}" for k in keys)), signs),
    ]
