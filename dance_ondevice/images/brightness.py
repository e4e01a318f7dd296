"""Mean luma and contrast of a grey picture: what lights are told apart by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["luma_and_contrast"]


def luma_and_contrast(grey: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of (h, w) uint8 luma, as fractions of full scale."""
    import cv2  # on use: its pixel limit is read at its first import, see images.codec.limit_pixels

    mean, deviation = cv2.meanStdDev(grey)
    return float(mean[0, 0]) / 255, float(deviation[0, 0]) / 255
