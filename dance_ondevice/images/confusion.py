"""Confusion matrices and intersection over union of masks.

Defined as in Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective" (IJCV 2015):
one confusion matrix over the whole set, pixels to ignore excluded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.labels import IGNORE

__all__ = ["Matrix", "confusion_matrix", "iou_per_class", "miou"]

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
        ValueError: The shapes differ, the ids are no whole numbers, or one that counts is not from 0 to below
            ``n_classes``.
    """
    if label.shape != prediction.shape:
        raise ValueError(f"label {label.shape} and prediction {prediction.shape} differ in shape")
    for name, ids in (("label", label), ("prediction", prediction)):
        if ids.dtype.kind not in "uib":
            raise ValueError(f"the {name} is of {ids.dtype}, expected class ids of uint8")
    counted = label != IGNORE
    truth = label[counted].astype(np.int64)
    predicted = prediction[counted].astype(np.int64)
    for name, ids in (("label", truth), ("prediction", predicted)):
        if ids.size and ids.min() < 0:
            raise ValueError(
                f"the {name} holds class id {int(ids.min())}; ids begin at 0, ignore is {IGNORE}"
            )
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
