"""How well indicators rank frames by what downsampling really costs a model, and what they cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dance_ondevice.benchmarks import scale_choice
from dance_ondevice.benchmarks.indicators_report import (
    TARGET_SCALE,
    ImageLoss,
    IndicatorResult,
    IndicatorsReport,
    scale_key,
)
from dance_ondevice.complexity import (
    INDICATORS,
    Complexity,
    Indicator,
    grey_reduction,
    label_boundary_density,
    make_indicator,
)
from dance_ondevice.datasets.listing import LabelledImage, ReadLabel
from dance_ondevice.images.codec import decode_colour, decode_grey, encode_jpeg
from dance_ondevice.images.confusion import Matrix, miou
from dance_ondevice.images.headers import probe
from dance_ondevice.learnt_loss import LearntLoss, describe, learn_loss, out_of_group
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import predict
from dance_ondevice.ranks import spearman
from dance_ondevice.training.evaluation import ByScale, look

#: (width, height) of the frame that times are told for.
_TIMED_SIZE = (640, 480)
_TIMED_FRAMES = 4
_TIMED_QUALITY = 95
#: Calls whose median is one time, after a few that warm the caches.
_TIMED_CALLS = 40
_WARM_UP_CALLS = 3

LABEL = "label_boundary_density"
UNCERTAINTY = "model_uncertainty"
MIRRORED = "loss of the mirrored frame"
FROM_MASKS = "learnt_from_masks"

_NEEDS = {
    LABEL: "the label",
    UNCERTAINTY: "an inference at full size",
    FROM_MASKS: "an inference at full size",
}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What to measure with.

    Attributes:
        model: in eval mode.
        card: its card.
        scales: below 1, what the images are downsampled to.
        read_label: of the data set.
        clock: seconds, for the times.
    """

    model: nn.Module
    card: ModelCard
    scales: tuple[float, ...]
    read_label: ReadLabel
    clock: Callable[[], float]


def learn(
    bench: Bench, items: Sequence[LabelledImage], *, on_image: Callable[[int], None] = lambda _: None
) -> LearntLoss:
    """Learn the model's loss from labelled images.

    Args:
        bench: what to measure with.
        items: three images or more, none of which is measured on later.
        on_image: called with the number of images done, after each.

    Raises:
        ImageError: an image or label cannot be read.
        LabelError: a label has ids that the data set does not.
        OSError: a file cannot be read.
        ValueError: too few images.
    """
    descriptions, losses = [], []
    for done, item in enumerate(items, start=1):
        data = item.image.read_bytes()
        bgr, label = decode_colour(data), bench.read_label(item.label)
        descriptions.append(describe(_ingest_grey(data)))
        # The mean of an image and its mirror image is the less noisy of what there is to learn.
        pair = [_image_loss(bench, "", *each)[0] for each in ((bgr, label), (_mirror(bgr), _mirror(label)))]
        losses.append([np.mean([found.loss[scale_key(scale)] for found in pair]) for scale in bench.scales])
        on_image(done)
    return LearntLoss(learn_loss(np.stack(descriptions), np.array(losses), bench.scales))


def measure_indicators(
    bench: Bench,
    items: Sequence[LabelledImage],
    *,
    learnt: Indicator | None = None,
    apart: Sequence[str] = (),
    dataset: str,
    split: str,
    learnt_from: str = "",
    on_image: Callable[[int], None] = lambda _: None,
) -> IndicatorsReport:
    """Measure every indicator.

    Args:
        bench: what to measure with.
        items: the images; two at least, or no ranks can agree.
        learnt: an indicator to measure beside those that have a name.
        apart: the group of each image, such as its drive; then the learnt indicator learns from these images,
            and scores those of each group by what the other groups have taught. Beside it stands one that
            learns in the same way from the masks at full size: their confidence and the shares of classes.
        dataset: name, for the report.
        split: name, for the report.
        learnt_from: what ``learnt`` has learnt from, for the report.
        on_image: called with the number of images done, after each.

    Raises:
        ImageError: an image or label cannot be read.
        LabelError: a label has ids that the data set does not.
        OSError: a file cannot be read.
    """
    indicators = [make_indicator(name, bench.scales) for name in INDICATORS]
    if learnt is not None:
        indicators.append(learnt)
    every = (1.0, *bench.scales)
    seen: list[Mapping[float, Matrix]] = []
    descriptions: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.float32]] = []
    keys = [scale_key(scale) for scale in bench.scales]
    losses: list[ImageLoss] = []
    mirrored: list[ImageLoss] = []
    scores: dict[str, list[Complexity]] = {}
    for done, item in enumerate(items, start=1):
        data = item.image.read_bytes()
        bgr, label = decode_colour(data), bench.read_label(item.label)
        found, whole = _image_loss(bench, item.image.name, bgr, label, scale_choice.same_cost(every))
        losses.append(found)
        seen.append(whole.matrices)
        # The same scene a second time: how well the loss agrees with itself bounds what can be asked of an
        # indicator.
        mirrored.append(_image_loss(bench, item.image.name, _mirror(bgr), _mirror(label))[0])
        grey, bits = _ingest_grey(data), _bits_per_pixel(data)
        for indicator in indicators:
            scores.setdefault(indicator.name, []).append(indicator.measure(grey, bits))
        scores.setdefault(LABEL, []).append(Complexity(label_boundary_density(label), {}))
        scores.setdefault(UNCERTAINTY, []).append(Complexity(1.0 - whole.confidence, {}))
        descriptions.append(describe(grey))
        shares = whole.matrices[1.0].sum(axis=0) / max(1, int(whole.matrices[1.0].sum()))
        masks.append(np.array([whole.confidence, *shares], np.float32))
        on_image(done)
    if apart:
        pairs = [
            [(one.loss[key] + two.loss[key]) / 2 for key in keys]
            for one, two in zip(losses, mirrored, strict=True)
        ]
        fitted = LearntLoss(learn_loss(np.stack(descriptions), np.array(pairs), bench.scales))
        indicators.append(fitted)
        for name, features in ((fitted.name, descriptions), (FROM_MASKS, masks)):
            scores[name] = _judged_apart(bench.scales, features, pairs, apart)
    decode, times = _times(bench, indicators, items[:: max(1, len(items) // _TIMED_FRAMES)][:_TIMED_FRAMES])

    def rho(predicted: Mapping[str, Sequence[float]]) -> dict[str, float | None]:
        return {key: spearman(predicted[key], [loss.loss[key] for loss in losses]) for key in keys}

    results = {
        name: IndicatorResult(
            needs=_NEEDS.get(name, ""),
            rho=rho(
                {
                    key: [_score_at(each, scale, bench.scales) for each in found]
                    for key, scale in zip(keys, bench.scales, strict=True)
                }
            ),
            microseconds=times.get(name, times[UNCERTAINTY]),
            of_grey_decode=times.get(name, times[UNCERTAINTY]) / decode,
        )
        for name, found in scores.items()
    }
    results[MIRRORED] = IndicatorResult(
        needs="the label and all inferences",
        rho=rho({key: [loss.loss[key] for loss in mirrored] for key in keys}),
        microseconds=None,
        of_grey_decode=None,
    )
    return IndicatorsReport(
        dataset=dataset,
        split=split,
        learnt_from=learnt_from,
        model={
            "architecture": bench.card.architecture or bench.card.factory,
            "version": bench.card.version or None,
            "parameters": bench.card.parameters,
            "sha256": bench.card.sha256 or None,
        },
        miou={scale_key(scale): miou(np.sum([each[scale] for each in seen], axis=0)) for scale in every},
        grey_decode_microseconds=decode,
        indicators=dict(sorted(results.items(), key=lambda entry: _by_rho(entry[1]))),
        served=scale_choice.compared(
            seen, {name: [each.score for each in found] for name, found in scores.items()}, every
        ),
        losses=tuple(losses),
    )


def _by_rho(result: IndicatorResult) -> float:
    judged = result.rho.get(TARGET_SCALE, next(iter(result.rho.values())))
    return 2.0 if judged is None else -judged


def _image_loss(
    bench: Bench,
    name: str,
    bgr: NDArray[np.uint8],
    label: NDArray[np.uint8],
    *others: float,
) -> tuple[ImageLoss, ByScale]:
    """The loss of one image at the scales, and how the model sees it at these and other scales."""
    classes = len(bench.card.classes)
    found = look(
        bench.model,
        bgr,
        label,
        scales=(*bench.scales, *others),
        normalisation=bench.card.normalisation,
        n_classes=classes,
    )
    losses = {scale_key(scale): found.loss(scale) for scale in bench.scales}
    return ImageLoss(image=name, miou=found.full, loss=losses), found


def _judged_apart(
    scales: Sequence[float],
    features: Sequence[NDArray[np.float32]],
    losses: Sequence[Sequence[float]],
    apart: Sequence[str],
) -> list[Complexity]:
    """Score each image by what other groups teach of these features."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(apart))}
    told = out_of_group(np.stack(features), np.array(losses), scales, [numbers[name] for name in apart])
    at = list(scales).index(min(scales))
    return [Complexity(float(row[at]), dict(zip(scales, row.tolist(), strict=True))) for row in told]


def _score_at(found: Complexity, scale: float, scales: Sequence[float]) -> float:
    """An indicator's word on one scale; its score is on the smallest."""
    return found.score if scale == min(scales) else found.by_scale.get(scale, found.score)


def _ingest_grey(data: bytes) -> NDArray[np.uint8]:
    """The luma that the daemon would give to an indicator."""
    info = probe(data)
    return decode_grey(data, grey_reduction(info.height, info.width))


def _bits_per_pixel(data: bytes) -> float | None:
    info = probe(data)
    return 8 * len(data) / (info.width * info.height) if info.format == "jpeg" else None


def _times(
    bench: Bench, indicators: Sequence[Indicator], items: Sequence[LabelledImage]
) -> tuple[float, dict[str, float]]:
    """Microseconds for a grey decode, and by indicator, of a 640x480 frame; on one thread of OpenCV."""
    decodes: list[float] = []
    times: dict[str, list[float]] = {}

    def timed(action: Callable[..., object], *arguments: object, calls: int = _TIMED_CALLS) -> float:
        return _microseconds(lambda: action(*arguments), bench.clock, calls)

    with _one_thread():
        for item in items:
            bgr, label = _timed_frame(item, bench.read_label)
            data = encode_jpeg(bgr, _TIMED_QUALITY)
            grey, bits = _ingest_grey(data), _bits_per_pixel(data)
            decodes.append(timed(decode_grey, data))
            for indicator in indicators:
                times.setdefault(indicator.name, []).append(timed(indicator.measure, grey, bits))
            times.setdefault(LABEL, []).append(timed(label_boundary_density, label))
            times.setdefault(UNCERTAINTY, []).append(
                timed(predict, bench.model, bgr, bench.card.normalisation, calls=3)
            )
    return statistics.median(decodes), {name: statistics.median(found) for name, found in times.items()}


def _timed_frame(item: LabelledImage, read_label: ReadLabel) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    import cv2

    bgr = cv2.resize(decode_colour(item.image.read_bytes()), _TIMED_SIZE, interpolation=cv2.INTER_AREA)
    label = cv2.resize(read_label(item.label), _TIMED_SIZE, interpolation=cv2.INTER_NEAREST)
    return np.asarray(bgr, np.uint8), np.asarray(label, np.uint8)


def _microseconds(action: Callable[[], object], clock: Callable[[], float], calls: int) -> float:
    for _ in range(_WARM_UP_CALLS):
        action()
    found = []
    for _ in range(calls):
        start = clock()
        action()
        found.append(clock() - start)
    return statistics.median(found) * 1e6


@contextmanager
def _one_thread() -> Iterator[None]:
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _mirror(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image[:, ::-1])
