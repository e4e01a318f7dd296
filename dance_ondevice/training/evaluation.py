"""Evaluation of masks: confusion matrices and intersection over union.

Defined as in Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective" (IJCV 2015):
one confusion matrix over the whole set, pixels to ignore excluded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dance_ondevice.images.codec import resize_area
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import predict
from dance_ondevice.training.batches import TrainingSample, read_image, read_label

Matrix = NDArray[np.int64]


def confusion_matrix(label: NDArray[np.uint8], prediction: NDArray[np.uint8], n_classes: int) -> Matrix:
    """Count pixels by true and predicted class.

    Args:
        label: True class ids, 255 = ignore.
        prediction: Predicted class ids, of the same shape.
        n_classes: Number of classes.

    Returns:
        (n_classes, n_classes) counts; rows are the label, columns the prediction.

    Raises:
        ValueError: The shapes differ, or an id that counts is not below ``n_classes``.
    """
    if label.shape != prediction.shape:
        raise ValueError(f"label {label.shape} and prediction {prediction.shape} differ in shape")
    counted = label != IGNORE
    truth = label[counted].astype(np.int64)
    predicted = prediction[counted].astype(np.int64)
    for name, ids in (("label", truth), ("prediction", predicted)):
        if ids.size and (found := int(ids.max())) >= n_classes:
            raise ValueError(
                f"the {name} holds class id {found}; with {n_classes} classes ids end at {n_classes - 1}"
            )
    counts = np.bincount(truth * n_classes + predicted, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes)


def iou_per_class(matrix: Matrix) -> tuple[float | None, ...]:
    """Return the intersection over union by class, in [0,1]; None for a class in neither label nor mask."""
    hits = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hits
    return tuple(float(h / u) if u else None for h, u in zip(hits, union, strict=True))


def miou(matrix: Matrix) -> float:
    """Return the mean IoU over the classes that the labels hold, in [0,1]; 0.0 without any.

    A class that is predicted but in no label is not averaged (its IoU is 0 for a single stray pixel); its
    pixels already lower the IoU of the classes that they belong to.
    """
    present = matrix.sum(axis=1) > 0
    values = [
        iou for iou, counts in zip(iou_per_class(matrix), present, strict=True) if counts and iou is not None
    ]
    return float(np.mean(values)) if values else 0.0


def evaluate(
    model: nn.Module,
    samples: Sequence[TrainingSample],
    normalisation: Normalisation,
    n_classes: int,
    *,
    on_sample: Callable[[int], None] | None = None,
) -> Matrix:
    """Predict every sample at its scale and compare with its label at the label's own size.

    Args:
        model: Left in the mode (train or eval) in which it came.
        samples: What to evaluate on; weights are not used.
        normalisation: The model's.
        n_classes: Number of classes.
        on_sample: Called with the number of samples done, after each.

    Returns:
        One (n_classes, n_classes) confusion matrix over all samples; rows are the label.

    Raises:
        SampleError: A file is missing or not what it should be.
    """
    matrix = np.zeros((n_classes, n_classes), np.int64)
    training = model.training
    model.eval()
    try:
        for done, sample in enumerate(samples, start=1):
            image = resize_area(read_image(sample), sample.scale)
            label = read_label(sample, n_classes)
            height, width = label.shape
            prediction = predict(model, image, normalisation, out_size=(height, width))
            matrix += confusion_matrix(label, prediction.mask, n_classes)
            if on_sample is not None:
                on_sample(done)
    finally:
        model.train(training)
    return matrix


@dataclass(frozen=True, eq=False)
class ByScale:
    """One image as a model sees it at full size and at some scales.

    Attributes:
        matrices: Confusion matrix by scale, 1.0 included; each at the size of the label.
        confidence: Mean confidence at full size, in [0, 1].
    """

    matrices: Mapping[float, Matrix]
    confidence: float

    @property
    def full(self) -> float:
        """Return the image's own mIoU at full size, over the classes in its label."""
        return miou(self.matrices[1.0])

    def loss(self, scale: float) -> float:
        """Return the mIoU that is lost at a scale; negative where smaller was better."""
        return self.full - miou(self.matrices[scale])


def look(
    model: nn.Module,
    image: NDArray[np.uint8],
    label: NDArray[np.uint8],
    *,
    scales: Sequence[float],
    normalisation: Normalisation,
    n_classes: int,
) -> ByScale:
    """Infer an image at full size and at some scales, and compare with its label.

    Args:
        model: The model, in eval mode.
        image: BGR (h, w, 3) uint8.
        label: Class ids (h, w) uint8, 255 = ignore.
        scales: Factors of the full size, each in (0, 1].
        normalisation: The model's normalisation.
        n_classes: Number of classes.
    """
    matrices, confidence = {}, 0.0
    for scale in (1.0, *(each for each in scales if each != 1.0)):
        found = predict(model, resize_area(image, scale), normalisation, label.shape)
        matrices[scale] = confusion_matrix(label, found.mask, n_classes)
        if scale == 1.0:
            confidence = found.mean_confidence
    return ByScale(matrices, confidence)
