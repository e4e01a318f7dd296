"""Scores models on the labelled images of some splits."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from dance_ondevice.benchmarks.score.report import ModelScore, ScoreReport, SplitScore
from dance_ondevice.datasets.listing import Dataset, with_plain_labels
from dance_ondevice.images.confusion import iou_per_class, miou
from dance_ondevice.models import checkpoint
from dance_ondevice.models.cost import count_macs, count_parameters
from dance_ondevice.models.forward import channels_last
from dance_ondevice.training.batches import TrainingSample, image_size
from dance_ondevice.training.evaluation import evaluate


def run(
    dataset: Dataset,
    splits: Sequence[str],
    models: Mapping[str, Path],
    size: tuple[int, int],
    *,
    say: Callable[[str], None],
    cpu_clock: Callable[[], float] = time.process_time,
) -> ScoreReport:
    """Score every model on every split, in torch.

    Args:
        dataset: Data set whose classes the models know.
        splits: Splits to score on, at least one.
        models: Folders of models by name.
        size: (height, width) that larger images are fitted to.
        say: Called with a line for each score.
        cpu_clock: CPU seconds of this process.

    Raises:
        DatasetError: A split is missing.
        CheckpointError: A model cannot be loaded.
        SampleError: An image or label cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="dance-bench-score-") as folder:
        samples = {split: _samples(dataset, split, size, Path(folder) / split) for split in splits}
        return ScoreReport(
            dataset=dataset.name,
            size=size,
            models={
                name: _score(path, samples, size, say=partial(_prefixed, say, name), cpu_clock=cpu_clock)
                for name, path in models.items()
            },
        )


def _prefixed(say: Callable[[str], None], name: str, line: str) -> None:
    say(f"{name}: {line}")


def _samples(dataset: Dataset, split: str, size: tuple[int, int], folder: Path) -> list[TrainingSample]:
    plain = with_plain_labels(dataset.images((split,)), dataset.read_label, folder)
    found = [TrainingSample(item.image, item.label) for item in plain]
    return [
        TrainingSample(each.image, each.label, scale=min(1.0, size[0] / image_size(each)[0]))
        for each in found
    ]


def _score(
    path: Path,
    samples: Mapping[str, Sequence[TrainingSample]],
    size: tuple[int, int],
    *,
    say: Callable[[str], None],
    cpu_clock: Callable[[], float],
) -> ModelScore:
    model, card = checkpoint.load(path)
    model = channels_last(model)
    began, splits = cpu_clock(), {}
    for split, images in samples.items():
        matrix = evaluate(model, images, card.normalisation, len(card.classes))
        ious = dict(zip(card.classes, iou_per_class(matrix), strict=True))
        splits[split] = SplitScore(images=len(images), miou=miou(matrix), iou_per_class=ious)
        say(f"mIoU {splits[split].miou:.4f} on {split}, {len(images)} images")
    spent = cpu_clock() - began
    mapped = card.class_map.members if card.class_map is not None else {}
    return ModelScore(
        architecture=card.architecture or card.factory,
        version=card.version,
        parameters=count_parameters(model),
        macs=count_macs(model, *size),
        infer_cpu_ms=1000 * spent / sum(len(images) for images in samples.values()),
        class_map={of: list(members) for of, members in mapped.items()},
        splits=splits,
    )
