"""Signals of a frame: measurements that distinguish conditions and show drift."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

#: Approximate number of pixels that are read; their mean is exact to one or two grey levels, in about 0.1 ms.
_PIXELS = 2048


def frame_signals(bgr: npt.NDArray[np.uint8], complexity: float) -> dict[str, float]:
    """Measure a frame by means over a grid of its pixels, so that the cost does not depend on its size.

    Args:
        bgr: (h, w, 3) uint8.
        complexity: The frame's spatial complexity, 0 to 1.

    Returns:
        ``luma`` and ``contrast`` (mean and deviation of BT.601 luma), ``warmth`` (red minus blue), ``tint``
        (green minus the mean of red and blue), each as a fraction of full scale, and ``complexity``.
    """
    step = max(1, math.isqrt(bgr.shape[0] * bgr.shape[1] // _PIXELS))
    grid = bgr[::step, ::step].reshape(-1, 3).astype(np.float32)
    blue, green, red = (float(value) / 255 for value in grid.mean(axis=0))
    luma = grid @ np.array((0.114, 0.587, 0.299), np.float32)
    return {
        "luma": 0.114 * blue + 0.587 * green + 0.299 * red,
        "contrast": float(luma.std()) / 255,
        "warmth": red - blue,
        "tint": green - (red + blue) / 2,
        "complexity": complexity,
    }
