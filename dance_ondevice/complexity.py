"""Spatial complexity: how much of a frame would be lost if it were stored, trained on or inferred smaller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

INDICATOR_NAMES: tuple[str, ...] = ("detail_loss", "edge_density")

#: Scale that detail loss is judged at when no candidate scale is below 1.
_REFERENCE_SCALE = 0.5
#: Added to the variance, in squared grey levels, so that rounding in an almost flat image is no detail.
_VARIANCE_FLOOR = 1.0
#: An edge is a step of at least this share of the 8-bit range across three pixels.
_EDGE_STEP = 0.1
#: |gx| + |gy| of the 3x3 Sobel operator for an axis-aligned step of the whole 8-bit range.
_SOBEL_FULL_STEP = 4 * 255


@dataclass(frozen=True)
class Complexity:
    """What an indicator found in one frame.

    Attributes:
        score: in [0, 1]; higher means that more would be lost by downsampling.
        by_scale: loss in [0, 1] per candidate scale, where the indicator knows one; else empty.
    """

    score: float
    by_scale: Mapping[float, float]


class Indicator(Protocol):
    """Scores frames; stateless, so one may serve every camera and thread."""

    @property
    def name(self) -> str:
        """The name that the configuration knows it by."""

    def measure(self, grey: NDArray[np.uint8]) -> Complexity:
        """Score an (h, w) uint8 luma image of any size from 1x1."""


def make_indicator(name: str, scales: Sequence[float]) -> Indicator:
    """Build an indicator by name.

    Args:
        name: one of ``INDICATOR_NAMES``.
        scales: candidate scales in (0, 1] that a frame may be downsampled to.

    Raises:
        ValueError: unknown name, or a scale out of range.
    """
    wrong = [scale for scale in scales if not 0 < scale <= 1]
    if wrong:
        raise ValueError(f"scales {wrong} are out of range: each must be above 0 and at most 1")
    if name == "detail_loss":
        return DetailLoss(scales)
    if name == "edge_density":
        return EdgeDensity()
    raise ValueError(f"unknown complexity indicator {name!r}; choose one of {', '.join(INDICATOR_NAMES)}")


class DetailLoss:
    """Fraction of luma variance that does not survive the way down to a scale and back up.

    For each scale s: ``loss(s) = mean((x - up(down(x, s)))^2) / (var(x) + floor)``, down by area averaging
    (what the store does to a frame), up by linear interpolation (what the network does to its logits). The
    score is the loss at the smallest candidate scale below 1, or at 0.5 where there is none.
    """

    name = "detail_loss"

    def __init__(self, scales: Sequence[float]) -> None:
        self._scales = tuple(scales)
        self._judged_at = min((scale for scale in scales if scale < 1), default=_REFERENCE_SCALE)

    def measure(self, grey: NDArray[np.uint8]) -> Complexity:
        """Score an (h, w) uint8 luma image; a flat one scores 0."""
        # cv2 is imported on use throughout: its pixel limit can only be set before the first import.
        import cv2

        deviation = float(cv2.meanStdDev(grey)[1][0, 0])
        scale_of_errors = 1.0 / (grey.size * (deviation**2 + _VARIANCE_FLOOR))
        h, w = grey.shape
        losses: dict[float, float] = {}
        for scale in {*self._scales, self._judged_at}:
            size = (max(1, round(w * scale)), max(1, round(h * scale)))
            if size == (w, h) or deviation == 0.0:
                losses[scale] = 0.0
                continue
            # Above a half, linear interpolation weighs the two neighbours of a new pixel nearly as area
            # averaging does, which is quick for whole factors only and else takes four times as long.
            how = cv2.INTER_LINEAR if scale > 0.5 else cv2.INTER_AREA
            down = cv2.resize(grey, size, interpolation=how)
            up = cv2.resize(down, (w, h), interpolation=cv2.INTER_LINEAR)
            losses[scale] = min(1.0, cv2.norm(grey, up, cv2.NORM_L2SQR) * scale_of_errors)
        return Complexity(
            score=losses[self._judged_at], by_scale={scale: losses[scale] for scale in self._scales}
        )


class EdgeDensity:
    """Fraction of pixels that lie on an edge: Sobel |gx| + |gy| above a tenth of a black-to-white step."""

    name = "edge_density"

    def measure(self, grey: NDArray[np.uint8]) -> Complexity:
        """Score an (h, w) uint8 luma image; a flat one scores 0."""
        import cv2

        # Replicated borders, so that the frame's rim is never an edge and a single pixel has no gradient.
        gx, gy = cv2.spatialGradient(grey, ksize=3, borderType=cv2.BORDER_REPLICATE)
        edges = np.abs(gx) + np.abs(gy) > _EDGE_STEP * _SOBEL_FULL_STEP
        return Complexity(score=float(np.count_nonzero(edges)) / grey.size, by_scale={})
