"""The result of ``bench score``, and its section on the page of results."""

from __future__ import annotations

from dataclasses import dataclass

from dance_ondevice.benchmarks.markdown import number, table


@dataclass(frozen=True, kw_only=True)
class SplitScore:
    """Scores of one model on one split.

    Attributes:
        images: Number of images.
        miou: mIoU over the whole split, in [0, 1].
        iou_per_class: IoU by class; None for a class in neither labels nor masks.
    """

    images: int
    miou: float
    iou_per_class: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class ModelScore:
    """One model.

    Attributes:
        architecture: Name of the network.
        version: Version on the model's card.
        parameters: Number of its parameters.
        macs: Multiply-accumulates of one image of the report's size.
        infer_cpu_ms: CPU milliseconds of an image in torch on one thread, decoding and comparison included,
            the mean over all images.
        class_map: Class of the data set -> the network's own classes that stand for it; empty where they are
            the same.
        splits: Scores by split.
    """

    architecture: str
    version: str
    parameters: int
    macs: int
    infer_cpu_ms: float
    class_map: dict[str, list[str]]
    splits: dict[str, SplitScore]


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """Everything that one call measured.

    Attributes:
        dataset: Name of the data set.
        size: (height, width) that images are fitted to; scores are taken at the size of the labels.
        models: Scores by the name of each model's folder.
    """

    dataset: str
    size: tuple[int, int]
    models: dict[str, ModelScore]


def section(report: ScoreReport) -> tuple[str, list[str]]:
    """Title and Markdown lines of a result."""
    splits = list(next(iter(report.models.values())).splits)
    rows = [
        (
            f"{model.architecture}, {model.parameters / 1e3:.0f} k parameters",
            *(number(model.splits[split].miou, ".4f") for split in splits),
            f"{model.macs / 1e6:.0f} M",
            f"{model.infer_cpu_ms:.0f}",
        )
        for model in report.models.values()
    ]
    names = [
        f"{model.parameters / 1e3:.0f} k, {split}" for model in report.models.values() for split in splits
    ]
    classes = [
        (
            name,
            *(
                number(model.splits[split].iou_per_class.get(name), ".2f")
                for model in report.models.values()
                for split in splits
            ),
        )
        for name in next(iter(report.models.values())).splits[splits[0]].iou_per_class
    ]
    mapped = next((model.class_map for model in report.models.values() if model.class_map), {})
    told = "; ".join(f"{', '.join(members)} -> {name}" for name, members in mapped.items())
    return f"Models as they are, {report.dataset}", [
        f"Images of {report.size[1]}x{report.size[0]}, nothing trained."
        + (f" Classes by name: {told}." if told else ""),
        "",
        *table(("model", *(f"mIoU {split}" for split in splits), "MACs", "CPU ms an image"), rows),
        "",
        *table(("IoU of class", *names), classes),
    ]
