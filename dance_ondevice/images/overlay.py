"""A mask over its frame, with a legend, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.labels import IGNORE

__all__ = ["Colour", "overlay"]

#: Red, green, blue, each 0 to 255.
Colour = tuple[int, int, int]

#: How much of the frame shows through the colours.
_FRAME_SHARE = 0.5
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_ROW = 22
_LEGEND_WIDTH = 190
_LEAST_HEIGHT = 240
_WHITE, _INK, _GREY = (255, 255, 255), (40, 40, 40), (110, 110, 110)


def overlay(
    mask: NDArray[np.uint8],
    frame: NDArray[np.uint8] | None,
    names: Sequence[str],
    palette: Sequence[Colour],
    *,
    caption: str = "",
) -> NDArray[np.uint8]:
    """Paint a mask over its frame, or alone, beside a legend of the classes in it, the largest first.

    Args:
        mask: (H, W) uint8 class ids; ``IGNORE`` is black, an id without a colour white.
        frame: (h, w, 3) uint8, BGR, brought to the mask's size; None shows the colours alone.
        names: of the classes; one that is missing is shown by its id.
        palette: the colour of each class.
        caption: a line above the legend; what is not ASCII is shown as a question mark.

    Returns:
        (H', W', 3) uint8, BGR: the picture at the mask's own size or larger, and the legend at its right.
    """
    table = np.full((256, 3), 255, np.uint8)
    table[IGNORE] = 0
    for number, (red, green, blue) in enumerate(palette[:IGNORE]):
        table[number] = (blue, green, red)
    colours = table[mask]
    height, width = mask.shape
    if frame is not None:
        if frame.shape[:2] != mask.shape:
            frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        colours = np.asarray(cv2.addWeighted(frame, _FRAME_SHARE, colours, 1 - _FRAME_SHARE, 0), np.uint8)
    if height < _LEAST_HEIGHT:
        factor = -(-_LEAST_HEIGHT // height)
        colours = np.repeat(np.repeat(colours, factor, axis=0), factor, axis=1)
    return np.hstack([colours, _legend(mask, names, table, colours.shape[0], caption)])


def _legend(
    mask: NDArray[np.uint8], names: Sequence[str], table: NDArray[np.uint8], height: int, caption: str
) -> NDArray[np.uint8]:
    area = np.full((height, _LEGEND_WIDTH, 3), 255, np.uint8)
    _write(area, caption, 8, 16, _GREY)
    counts = np.bincount(mask.ravel(), minlength=256)
    present = sorted(map(int, np.flatnonzero(counts)), key=lambda number: (-counts[number], number))
    for row, number in enumerate(present[: (height - _ROW) // _ROW]):
        top = _ROW * (row + 1) + 4
        colour = tuple(int(channel) for channel in table[number])
        cv2.rectangle(area, (8, top), (24, top + 14), colour, cv2.FILLED)
        cv2.rectangle(area, (8, top), (24, top + 14), _GREY, 1)
        name = "ignored" if number == IGNORE else names[number] if number < len(names) else f"class {number}"
        _write(area, f"{name} {100 * counts[number] / mask.size:.0f} %", 32, top + 12, _INK)
    return area


def _write(area: NDArray[np.uint8], text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    ascii_text = text.encode("ascii", "replace").decode()
    cv2.putText(area, ascii_text, (x, y), _FONT, 0.42, colour, 1, cv2.LINE_AA)
