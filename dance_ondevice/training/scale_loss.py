"""What it costs a model to see one labelled image smaller, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dance_ondevice.images.codec import resize_area
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import predict
from dance_ondevice.training.evaluation import Matrix, confusion_matrix, miou

__all__ = ["ByScale", "look"]


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
