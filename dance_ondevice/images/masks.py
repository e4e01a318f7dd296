"""Masks from the coarse class scores of a network: upsampling, best class, confidence.

``decide`` looks at every pixel, to judge models; ``decide_on_half_grid`` at one in four, to serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["STRIDE", "Decide", "Prediction", "decide", "decide_on_half_grid"]

#: Number of which padded sides are multiples: the deepest downsampling of the architectures.
STRIDE = 32
#: Side of the squares of which one pixel counts for the mean confidence.
_CONFIDENCE_STRIDE = 4


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction of a model for one frame.

    Attributes:
        mask: Most likely class of each pixel, (H, W) uint8.
        mean_confidence: Mean of that class's softmax probability, 0 to 1, over every fourth pixel of every
            fourth row: a mean over all pixels is nearly equal and takes ten times as long.
    """

    mask: NDArray[np.uint8]
    mean_confidence: float


#: A function such as ``decide``.
Decide: TypeAlias = Callable[[NDArray[np.float32], tuple[float, float], tuple[int, int]], Prediction]


def decide(
    coarse: NDArray[np.float32],
    span: tuple[float, float],
    out_size: tuple[int, int],
) -> Prediction:
    """Return the best class of each pixel of (H, W) = ``out_size``, of coarse logits (C, h, w).

    It works class by class: upsampling all classes before taking the largest takes three times as long.

    Args:
        coarse: Contiguous logits (C, h, w).
        span: Size (height, width) in pixels of the mask that the logits cover, padding included.
        out_size: Size of the result, from the upper left.
    """
    height, width = out_size
    mask = np.zeros(out_size, np.uint8)
    best = np.full(out_size, -np.inf, np.float32)
    some = []
    for index, plane in enumerate(coarse):
        scores = _upsampled(plane, span)[:height, :width]
        above = cv2.compare(scores, best, cv2.CMP_GT)  # 255 where it is larger
        cv2.max(scores, best, dst=best)
        # Classes come in rising order, so that the latest that was larger is the largest number.
        np.maximum(mask, np.bitwise_and(above, index, out=above), out=mask)
        some.append(scores[::_CONFIDENCE_STRIDE, ::_CONFIDENCE_STRIDE])
    top = best[::_CONFIDENCE_STRIDE, ::_CONFIDENCE_STRIDE]
    with np.errstate(invalid="ignore"):  # logits that are not finite: the confidence says so
        confidence = 1 / np.exp(np.stack(some) - top).sum(axis=0)
    return Prediction(mask, float(confidence.mean()))


def decide_on_half_grid(
    coarse: NDArray[np.float32], span: tuple[float, float], out_size: tuple[int, int]
) -> Prediction:
    """Decide one class for each square of four pixels, in a third of the time of ``decide``.

    Its mIoU is 0.02 to 0.05 points lower. The confidence is that of the network's own cells. Scores that are
    finer than such squares are decided pixel by pixel.

    Args:
        coarse, span, out_size: see ``decide``.
    """
    rows, columns = span[0] / coarse.shape[1], span[1] / coarse.shape[2]
    if min(rows, columns) < 2:
        return decide(coarse, span, out_size)
    # OpenCV rounds the size of what it enlarges, to one less than needed at most.
    height = min(-(-out_size[0] // 2), round(coarse.shape[1] * (rows / 2)))
    width = min(-(-out_size[1] // 2), round(coarse.shape[2] * (columns / 2)))
    mask = np.zeros((height, width), np.uint8)
    best = None
    for index, plane in enumerate(coarse):
        scores = cv2.resize(plane, None, fx=columns / 2, fy=rows / 2)[:height, :width]
        if best is None:
            best = scores
            continue
        above = cv2.compare(scores, best, cv2.CMP_GT)
        cv2.max(scores, best, dst=best)
        cv2.max(mask, np.bitwise_and(above, np.uint8(index), out=above), dst=mask)
    whole = cv2.resize(mask, (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST)
    if whole.shape[0] < out_size[0] or whole.shape[1] < out_size[1]:
        below, right = (max(0, side - had) for side, had in zip(out_size, whole.shape, strict=True))
        whole = cv2.copyMakeBorder(whole, 0, below, 0, right, cv2.BORDER_REPLICATE)
    cells = coarse[:, : ceil(out_size[0] / rows), : ceil(out_size[1] / columns)]
    with np.errstate(invalid="ignore"):
        confidence = 1 / np.exp(cells - cells.max(axis=0)).sum(axis=0)
    return Prediction(
        np.ascontiguousarray(whole[: out_size[0], : out_size[1]], np.uint8), float(confidence.mean())
    )


def _upsampled(plane: NDArray[np.float32], span: tuple[float, float]) -> NDArray[np.float32]:
    """Upsample one class's logits (h, w) to the span, bilinearly as torch does, in a fraction of its time."""
    rows, columns = span[0] / plane.shape[0], span[1] / plane.shape[1]
    if rows == columns == 1:
        return plane
    # The factors and no size: rounding the size would move the edges.
    return cv2.resize(plane, None, fx=columns, fy=rows).astype(np.float32, copy=False)
