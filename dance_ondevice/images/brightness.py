"""Mean luma and contrast of a grey picture: what lights are told apart by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_grey", "luma_and_contrast"]


def check_grey(grey: NDArray[np.uint8]) -> None:
    """Check that an array is a grey picture: figures of any other would be plausible and mean nothing.

    Raises:
        ValueError: It is not (H, W) of uint8, or has no pixel.
    """
    if grey.ndim != 2 or grey.dtype != np.uint8 or grey.size == 0:
        raise ValueError(f"expected a grey image (H, W) of uint8, found {grey.shape} of {grey.dtype}")


def luma_and_contrast(grey: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of (h, w) uint8 luma, as fractions of full scale.

    Raises:
        ValueError: See :func:`check_grey`.
    """
    check_grey(grey)
    import cv2  # on use: its pixel limit is read at its first import, see images.codec.limit_pixels

    mean, deviation = cv2.meanStdDev(grey)
    return float(mean[0, 0]) / 255, float(deviation[0, 0]) / 255
