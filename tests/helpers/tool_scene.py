"""The small scene that the fixtures of labelling tools show, and the names of its images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 24, 32
#: Images of a camera called cam, one a microsecond; nobody has drawn on the last one.
IDS = tuple(f"cam-179594471200000{number}-{number}" for number in range(3))
DRAWN = IDS[:2]
NAMES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
COLOURS = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip


def truth(number: int) -> NDArray[np.uint8]:
    """(HEIGHT, WIDTH) uint8 class ids of an image, 255 where nobody drew."""
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:8], mask[8:14], mask[14:22] = NAMES.index("sky"), NAMES.index("building"), NAMES.index("road")
    mask[16:20, 4 + number : 12] = NAMES.index("car")
    mask[10:20, 28:30] = NAMES.index("bicyclist")
    return mask
