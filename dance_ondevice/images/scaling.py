"""The size that a network is given a frame at, which is that of a mask's input and not of the mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.codec import resize_to
from dance_ondevice.images.masks import STRIDE

__all__ = ["inference_size", "resize_for_inference"]


def inference_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return the (height, width) in pixels that a network is given a frame at.

    At a scale below 1 the sides go up to whole multiples of ``STRIDE``, never above the frame's own: a
    network computes as many pixels in any case, and instead of padding they show the frame finer, stretched
    by a few percent.

    Args:
        size: (height, width) of the frame in pixels.
        scale: Factor of both sides, above 0.
    """
    height, width = size
    if scale >= 1:
        return size
    return min(height, _whole_strides(height * scale)), min(width, _whole_strides(width * scale))


def resize_for_inference(
    bgr: NDArray[np.uint8], scale: float, *, of: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Bring an image to ``inference_size``, for a mask that is served or judged.

    Args:
        bgr: (h, w, 3) uint8.
        scale: Factor of both sides of the frame, above 0.
        of: (height, width) of the frame in pixels, where ``bgr`` is a reduced decode of it, which has no more
            to show than its own pixels and is not enlarged; None where it is the frame.
    """
    height, width = bgr.shape[:2]
    rows, columns = inference_size(of or (height, width), scale)
    return resize_to(bgr, (min(rows, height), min(columns, width)), sharp=True)


def _whole_strides(side: float) -> int:
    pixels = max(1, round(side))
    return pixels + -pixels % STRIDE
