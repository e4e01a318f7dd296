"""A simulated person who corrects a mask: each tap gives the largest wrong region its true class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.labels import IGNORE

__all__ = ["Corrected", "Habits", "correct"]

Mask = NDArray[np.uint8]


class Pieces(Protocol):
    """Says which pixels a tap means, see ``taps.Taps``."""

    def open(self, bgr: Mask) -> None: ...
    def piece(self, shown: Mask, y: int, x: int) -> NDArray[np.bool_]: ...


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How a person works.

    Attributes:
        taps_a_frame: Taps in one frame at most; then the next one is opened.
        least_share: Share of a frame's pixels below which nobody bothers about a wrong region.
        confirms: Whether the last tap in a frame is the button "all else is right".
    """

    taps_a_frame: int = 5
    least_share: float = 0.002
    confirms: bool = False


@dataclass(frozen=True)
class Corrected:
    """A frame that was worked at.

    Attributes:
        label: (h, w) class ids of what was said; 255 elsewhere.
        taps: Taps that it took: at regions, at "undo" and at "all else is right".
    """

    label: Mask
    taps: int


def correct(
    pieces: Pieces, bgr: Mask, predicted: Mask, truth: Mask, *, most: int, habits: Habits
) -> Corrected:
    """Work at one frame.

    A tap at a region may take in more than the person meant, since the piece under it is the program's
    choice. Where most of it is of another class the person takes it back, which is a tap as well, and
    leaves that region alone. A smaller error stays in the label.

    Args:
        pieces: Says which pixels a tap means.
        bgr: The image (h, w, 3).
        predicted: (h, w) class ids by the live model.
        truth: (h, w) true class ids; 255 where nobody knows.
        most: Taps that are left.
        habits: How the person works.
    """
    pieces.open(bgr)
    label = np.full(truth.shape, IGNORE, np.uint8)
    given_up = np.zeros(truth.shape, np.bool_)
    taps, wanted = 0, min(most, habits.taps_a_frame)
    while taps < wanted - habits.confirms:
        shown = np.where(label == IGNORE, predicted, label)
        found = _largest_wrong(shown, truth, given_up)
        if found is None or found.area < habits.least_share * truth.size:
            break
        taps += 1
        tapped = pieces.piece(shown, found.y, found.x)
        known = tapped & (truth != IGNORE)
        if 2 * np.count_nonzero(truth[known] == found.true) > np.count_nonzero(known):
            label[tapped] = found.true
        else:
            taps += 1  # "undo"
            given_up |= found.region
    if habits.confirms and taps < wanted:
        taps += 1
        label = np.where(label == IGNORE, predicted, label)
    return Corrected(label, min(taps, most))


@dataclass(frozen=True)
class _Region:
    region: NDArray[np.bool_]
    area: int
    true: int
    y: int
    x: int


def _largest_wrong(shown: Mask, truth: Mask, given_up: NDArray[np.bool_]) -> _Region | None:
    """The largest connected region of one true class that is shown as another, and its innermost pixel."""
    import cv2  # on use: its pixel limit is read at its first import, see images.limit_pixels

    wrong = (shown != truth) & (truth != IGNORE) & ~given_up
    best: tuple[int, int, NDArray[np.bool_]] | None = None
    for true in np.unique(truth[wrong]):
        of_class = (wrong & (truth == true)).astype(np.uint8)
        count, numbers, stats, _ = cv2.connectedComponentsWithStats(of_class, connectivity=4)
        if count < 2:
            continue
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        area = int(stats[largest, cv2.CC_STAT_AREA])
        if best is None or area > best[0]:
            best = area, int(true), numbers == largest
    if best is None:
        return None
    area, true, region = best
    # A border of zeros: the edge of the image is no inside.
    depth = cv2.distanceTransform(np.pad(region.astype(np.uint8), 1), cv2.DIST_L1, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return _Region(region, area, true, int(y), int(x))
