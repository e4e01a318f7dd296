"""Measures statistics on the first half of each drive, and scores blends of them on its second half."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from torch import nn

from dance_ondevice.benchmarks.blend.report import AtBlend, BlendReport, Drive
from dance_ondevice.conditions.agreement import estimate_agreeing
from dance_ondevice.conditions.statistics import NormStatistics, apply, capture
from dance_ondevice.datasets.listing import Dataset, LabelledImage, with_plain_labels
from dance_ondevice.images.confusion import confusion_matrix, miou
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.cost import count_parameters
from dance_ondevice.models.forward import channels_last, predict
from dance_ondevice.training.batches import TrainingSample, read_image, read_label

#: The fewest images of a drive: from half of them more than half of the measured statistics can be believed.
_LEAST = 20


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How many images of a drive are used.

    Attributes:
        measured: Images that statistics are measured on, as many as open a condition in the service.
        scored: Images that are scored.
        drives: The longest drives are taken, so many.
    """

    measured: int = 16
    scored: int = 8
    drives: int = 3


class TooShort(ValueError):  # noqa: N818 - the name says what is wrong
    """Error: no drive has enough images."""


def run(
    dataset: Dataset, split: str, base: Path, amounts: Amounts, *, say: Callable[[str], None]
) -> BlendReport:
    """Measure the longest drives of a split.

    Raises:
        TooShort: Every drive has too few images to try all blends.
        DatasetError: The split is missing.
        CheckpointError: The model cannot be loaded.
        SampleError: An image or label cannot be used.
    """
    model, card = checkpoint.load(base)
    model = channels_last(model.eval())
    with tempfile.TemporaryDirectory(prefix="dance-bench-blend-") as folder:
        plain = with_plain_labels(dataset.images((split,)), dataset.read_label, Path(folder))
        found = {
            name: _drive(model, card, *_shared_out(items, amounts), say=say)
            for name, items in _longest(plain, amounts.drives).items()
        }
    kilo = f"{count_parameters(model) / 1e3:.0f} k parameters"
    return BlendReport(
        dataset=dataset.name, split=split, model=f"{card.architecture or card.factory}, {kilo}", drives=found
    )


def _longest(items: Sequence[LabelledImage], count: int) -> Mapping[str, list[LabelledImage]]:
    drives = {name: list(group) for name, group in groupby(items, key=lambda item: item.sequence)}
    names = sorted(sorted(drives), key=lambda name: -len(drives[name]))[:count]
    if not names or len(drives[names[0]]) < _LEAST:
        raise TooShort(f"a drive needs {_LEAST} images: half to measure on, later ones to score")
    return {name: drives[name] for name in sorted(names) if len(drives[name]) >= _LEAST}


def _shared_out(
    items: Sequence[LabelledImage], amounts: Amounts
) -> tuple[list[TrainingSample], list[TrainingSample]]:
    """Evenly spread images of the first half of a drive, and of the second."""
    samples = [TrainingSample(item.image, item.label) for item in items]
    middle = len(samples) // 2
    return _spread(samples[:middle], amounts.measured), _spread(samples[middle:], amounts.scored)


def _spread(samples: Sequence[TrainingSample], most: int) -> list[TrainingSample]:
    count = min(most, len(samples))
    return [samples[len(samples) * place // count] for place in range(count)]


def _drive(
    model: nn.Module,
    card: ModelCard,
    first: Sequence[TrainingSample],
    later: Sequence[TrainingSample],
    *,
    say: Callable[[str], None],
) -> Drive:
    own = capture(model)
    agreed = estimate_agreeing(model, first, read_image, card.normalisation)
    alone = estimate_agreeing(model, first, read_image, card.normalisation, blend=1.0).statistics
    most = max(agreed.tried)
    names = {blend: "most" if blend == most else f"{blend:g}" for blend in agreed.tried} | {1.0: "1"}
    found = {}
    for blend, name in names.items():
        apply(model, _between(own, alone, blend))
        found[name] = _score(model, card, later, agreed.tried.get(blend))
    apply(model, own)
    scores = ", ".join(f"{name} {each.miou:.4f}" for name, each in found.items())
    say(f"{first[0].image.stem}: chosen {names[agreed.blend]}; mIoU {scores}")
    return Drive(measured=len(first), scored=len(later), blends=found, chosen=names[agreed.blend])


def _between(own: NormStatistics, alone: NormStatistics, blend: float) -> NormStatistics:
    return NormStatistics(
        {
            name: tuple(a.lerp(b, blend) for a, b in zip(layer, alone.layers[name], strict=True))
            for name, layer in own.layers.items()
        }
    )


def _score(
    model: nn.Module, card: ModelCard, samples: Sequence[TrainingSample], agreement: float | None
) -> AtBlend:
    classes = len(card.classes)
    matrix, confidence = np.zeros((classes, classes), np.int64), 0.0
    for sample in samples:
        label = read_label(sample, classes)
        seen = predict(model, read_image(sample), card.normalisation, label.shape)
        matrix += confusion_matrix(label, seen.mask, classes)
        confidence += seen.mean_confidence / len(samples)
    return AtBlend(miou=miou(matrix), confidence=confidence, agreement=agreement)
