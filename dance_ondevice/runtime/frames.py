"""Frames as a network takes them, made without torch and without copies between the steps."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.masks import STRIDE
from dance_ondevice.models.card import Normalisation

__all__ = ["FrameInput"]


class FrameInput:
    """Turns frames into a network's input, in one buffer that is used again for frames of the same size."""

    def __init__(self, normalisation: Normalisation) -> None:
        """``normalisation`` is the one that the network was trained with."""
        grey = np.arange(256, dtype=np.float64) / 255.0
        #: The value of each of 256 levels, in the order of the frame's channels (B, G, R).
        self._levels = [
            ((grey - mean) / std).astype(np.float32)
            for mean, std in zip(reversed(normalisation.mean), reversed(normalisation.std), strict=True)
        ]
        self._planes = np.empty((1, 3, 0, 0), np.float32)

    def of(self, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return a frame (h, w, 3) uint8 BGR as (1, 3, H, W) float32 RGB, normalised.

        The edge is repeated below and to the right until both sides are multiples of 32. The array is valid
        until the next call.

        Raises:
            ValueError: The image has another shape or dtype.
        """
        if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8 or bgr.size == 0:
            raise ValueError(f"expected an image (H, W, 3) of uint8, found {bgr.shape} of {bgr.dtype}")
        below, right = (-side % STRIDE for side in bgr.shape[:2])
        if below or right:  # before the values become four times as large
            bgr = np.asarray(cv2.copyMakeBorder(bgr, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)
        if self._planes.shape[2:] != bgr.shape[:2]:
            self._planes = np.empty((1, 3, *bgr.shape[:2]), np.float32)
        for channel, (plane, levels) in enumerate(zip(cv2.split(bgr), self._levels, strict=True)):
            cv2.LUT(plane, levels, dst=self._planes[0, 2 - channel])
        return self._planes
