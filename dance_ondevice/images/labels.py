"""Label masks: the meaning of the ids, their check, and their colours."""

from __future__ import annotations

import colorsys
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dance_ondevice import names

#: Id of ignored pixels, which count neither in a loss nor in a metric.
IGNORE = 255

#: Classes of the street scenes, in order of their ids (the 11 classes of CamVid).
STREET_CLASSES = names.STREET_CLASSES

_STREET_RGB = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
_MAX_IDS_IN_ERROR = 10


class LabelError(ValueError):
    """Error: a label mask cannot be used with the given number of classes."""


def colourise(mask: NDArray[np.uint8], n_classes: int) -> NDArray[np.uint8]:
    """Paint the class ids of a mask in colours, for people.

    Args:
        mask: Class ids (H, W) uint8.
        n_classes: Number of classes, 1 to 255.

    Returns:
        Image (H, W, 3) uint8, BGR. Ignored pixels are black, ids that no class has are white.
    """
    return _palette(n_classes)[mask]


def class_colours(n_classes: int) -> list[tuple[int, int, int]]:
    """Return the colours that :func:`colourise` paints, as (red, green, blue) from 0 to 255, by class id."""
    return [(int(r), int(g), int(b)) for b, g, r in _palette(n_classes)[:n_classes]]


def check_label(label: NDArray[np.uint8], n_classes: int) -> None:
    """Check that every pixel has a class or is ignored.

    Args:
        label: Class ids (H, W) uint8.
        n_classes: Number of classes, 1 to 255.

    Raises:
        LabelError: the array is not (H, W) uint8, or holds ids that are neither below ``n_classes`` nor 255.
    """
    if label.ndim != 2 or label.dtype != np.uint8:
        raise LabelError(f"a label is a (H, W) uint8 array, found {label.shape} {label.dtype}")
    counts = np.bincount(label.ravel(), minlength=IGNORE + 1)
    wrong = [int(i) for i in np.flatnonzero(counts[n_classes:IGNORE]) + n_classes]
    if wrong:
        shown = ", ".join(map(str, wrong[:_MAX_IDS_IN_ERROR])) + (
            ", ..." if len(wrong) > _MAX_IDS_IN_ERROR else ""
        )
        raise LabelError(
            f"the label holds ids {shown} in {int(counts[wrong].sum())} pixels; "
            f"allowed are 0 to {n_classes - 1} and {IGNORE} (ignore)"
        )


@cache
def _palette(n_classes: int) -> NDArray[np.uint8]:
    """Return a palette (256, 3) BGR; classes beyond the street's get hues a golden ratio apart."""
    if not 1 <= n_classes <= IGNORE:
        raise ValueError(f"n_classes is {n_classes}, allowed are 1 to {IGNORE}")
    rgb = np.full((256, 3), 255, np.uint8)
    for i in range(n_classes):
        if i < len(_STREET_RGB):
            rgb[i] = _STREET_RGB[i]
        else:
            hue = (i * 0.6180339887498949) % 1.0
            rgb[i] = [round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.85, 0.6 + 0.35 * (i % 2))]
    rgb[IGNORE] = 0
    palette = np.ascontiguousarray(rgb[:, ::-1])
    palette.setflags(write=False)
    return palette
