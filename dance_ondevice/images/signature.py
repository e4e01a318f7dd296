"""A frame's signature: a tiny normalised thumbnail as text, to find near-duplicates.

Luma is averaged over 16 x 12 cells, centred and scaled by its own mean and deviation, and quantised to 16
levels: one hex digit for each cell, row by row. Eight more digits repeat the mean brightness, so that a scene
by day differs from the same scene by night. Two signatures are compared digit by digit, see
``policies/samples/similarity.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.brightness import check_grey

__all__ = ["CELLS", "LENGTH", "signature"]

#: Columns and rows of the thumbnail.
CELLS = (16, 12)
_BRIGHTNESS_DIGITS = 8
#: Number of digits of a signature.
LENGTH = CELLS[0] * CELLS[1] + _BRIGHTNESS_DIGITS

#: Sixteen levels cover two deviations to either side of the mean.
_LEVELS_PER_DEVIATION = 4.0
#: Level of the mean; not 7.5, since the mean itself must not lie between two levels.
_MIDDLE = 7.75
#: Least deviation in grey levels that is scaled: in a flatter frame noise must not be amplified to a pattern.
_LEAST_DEVIATION = 4.0
#: Number of pixels whose sum 31 bits hold.
_MOST_PIXELS = (2**31 - 1) // 255


def signature(grey: NDArray[np.uint8]) -> str:
    """Compute the signature of a grey image (H, W) of uint8, of any size.

    Returns:
        ``LENGTH`` lower-case hex digits.

    Raises:
        ValueError: another shape or dtype.
    """
    check_grey(grey)
    import cv2  # on use: its pixel limit is read at its first import, see images.codec.limit_pixels

    cells, pixels = _sums(grey)
    found = cv2.meanStdDev(cells)
    mean, deviation = (float(each[0, 0]) / pixels for each in found)
    scale = _LEVELS_PER_DEVIATION / max(_LEAST_DEVIATION, deviation)
    # Rounded, and nothing below 0: the conversion to 8 bits does both.
    levels = cv2.addWeighted(cells, scale / pixels, cells, 0.0, _MIDDLE - mean * scale, dtype=cv2.CV_8U)
    pattern: str = np.minimum(levels, 15).tobytes().hex()[1::2]
    # A little is added: the mean of equal floats may be slightly less than each of them.
    return pattern + "0123456789abcdef"[min(15, int(mean + 0.01) // 16)] * _BRIGHTNESS_DIGITS


def _sums(grey: NDArray[np.uint8]) -> tuple[NDArray[np.int32] | NDArray[np.float32], int]:
    """The sum of each cell's pixels, and of how many; or the means, and 1.

    Means are not rounded: that would add a step of its own where a scene has little contrast.
    """
    import cv2

    (columns, beside), (rows, below) = divmod(grey.shape[1], CELLS[0]), divmod(grey.shape[0], CELLS[1])
    if not beside and not below and grey.size <= _MOST_PIXELS:
        # Sums of all pixels above and to the left, looked at in the cells' corners: the quickest way.
        corners = cv2.integral(grey)[::rows, ::columns]
        strips = corners[1:] - corners[:-1]
        return np.asarray(strips[:, 1:] - strips[:, :-1], np.int32), rows * columns
    means = cv2.resize(grey.astype(np.float32), CELLS, interpolation=cv2.INTER_AREA)
    return np.asarray(means, np.float32), 1
