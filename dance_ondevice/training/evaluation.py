"""Evaluation of a model on labelled samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dance_ondevice.images.confusion import Matrix, confusion_matrix, miou
from dance_ondevice.images.scaling import resize_for_inference
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import predict
from dance_ondevice.training.batches import TrainingSample, read_image, read_label


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
            image = resize_for_inference(read_image(sample), sample.scale)
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
        found = predict(model, resize_for_inference(image, scale), normalisation, label.shape)
        matrices[scale] = confusion_matrix(label, found.mask, n_classes)
        if scale == 1.0:
            confidence = found.mean_confidence
    return ByScale(matrices, confidence)
