"""Pictures of which a decoder lost the lower part: it fills what is missing with one grey or green."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_SHARE", "flat_below", "looks_damaged"]

#: A flat lower part smaller than this share of the height is no sign of damage.
LEAST_SHARE = 1 / 8
#: Grey levels by which pixels of one flat colour may differ after another compression.
_LEVELS = 4
#: Letterbox bars and the night are darker than this, blown-out snow is brighter: neither is a filling.
_DARKEST, _BRIGHTEST = 24, 235


def flat_below(grey: NDArray[np.uint8]) -> float:
    """Share of the height, from the lowest row up, that is of one colour and neither black nor white.

    Args:
        grey: (h, w) uint8.
    """
    level = int(grey[-1, 0])
    if not _DARKEST <= level <= _BRIGHTEST:
        return 0.0
    lowest = grey[-1]
    if abs(int(lowest[-1]) - level) > _LEVELS or abs(int(lowest[lowest.size // 2]) - level) > _LEVELS:
        return 0.0  # nearly every picture, without a look at the whole row
    if int(lowest.max()) - level > _LEVELS or level - int(lowest.min()) > _LEVELS:
        return 0.0
    # From below in steps, each as large as all before.
    rows, height = 0, int(grey.shape[0])
    while rows < height:
        step = max(1, rows)
        part = grey[max(0, height - rows - step) : height - rows]
        # Deviations of each row from the lowest one's level, the lowest row first.
        off = np.flatnonzero(np.abs(part[::-1].astype(np.int16) - level).max(axis=1) > _LEVELS)
        if off.size:
            return float(rows + int(off[0])) / height
        rows += len(part)
    return 1.0


def looks_damaged(grey: NDArray[np.uint8]) -> bool:
    """Whether the lower part is flat and the upper is not: a wholly flat picture is a covered lens."""
    return LEAST_SHARE <= flat_below(grey) < 1.0
