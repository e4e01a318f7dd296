"""Spatial complexity: how much of a frame would be lost if it were stored, trained on or inferred smaller.

Indicators score the luma of an unlabelled frame; :func:`label_boundary_density` scores a label. They are
formulas; ``learnt_loss`` has one that is learnt from a model's own losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dance_ondevice import names
from dance_ondevice.images.brightness import check_grey
from dance_ondevice.images.codec import encode_jpeg
from dance_ondevice.images.labels import IGNORE

#: Least length in pixels of the longer side at which frames are scored: enough to measure the loss of a
#: scale.
_MEASURED_SIDE = 320
#: Scale that detail loss is judged at when no candidate scale is below 1.
_REFERENCE_SCALE = 0.5
#: Constant added to the variance, in squared grey levels, so that rounding in an almost flat image does not
#: count as detail.
_VARIANCE_FLOOR = 1.0
#: Largest variance, in squared grey levels, that may be the error of the arithmetic alone.
_ROUNDING = 1e-6
#: Least step of an edge across three pixels, as a share of the 8-bit range.
_EDGE_STEP = 0.1
#: |gx| + |gy| of the 3x3 Sobel operator for an axis-aligned step of the whole 8-bit range.
_SOBEL_FULL_STEP = 4 * 255
#: Name in the configuration of the indicator that rounds learn, see ``learnt_loss``.
LEARNT = names.LEARNT
#: JPEG quality for frames that did not arrive as a JPEG.
_JPEG_QUALITY = 90
#: Bits per pixel that score 0.5: those of a frame with some detail at a usual quality.
_TYPICAL_BITS_PER_PIXEL = 2.0
#: Number of octaves that the spectral slope is fitted over, from the finest; coarser ones survive any scale.
_OCTAVES = 4
#: Exponent of 1/f^a at which the spectral slope scores 0; natural images have about 2, white noise 0.
_STEEPEST = 4.0


@dataclass(frozen=True)
class Complexity:
    """Complexity of one frame by an indicator.

    Attributes:
        score: Score in [0, 1]; higher means that downsampling would lose more.
        by_scale: Loss in [0, 1] by candidate scale; empty if the indicator gives none.
        scored_by: What makes scores comparable, where one indicator's are not all: "" or the fit's origin.
    """

    score: float
    by_scale: Mapping[float, float]
    scored_by: str = ""


class Indicator(Protocol):
    """Interface of an indicator that scores frames; it is stateless, so cameras and threads can share it."""

    @property
    def name(self) -> str:
        """Return the indicator's name in the configuration."""

    def measure(
        self, grey: NDArray[np.uint8], bits_per_pixel: float | None = None, deviation: float | None = None
    ) -> Complexity:
        """Score a frame.

        Args:
            grey: Luma (h, w) uint8 of any size from 1x1.
            bits_per_pixel: Bits per pixel of the frame's JPEG, 8 * bytes / (native width * native height);
                None for a frame of another format. Most indicators ignore it.
            deviation: Standard deviation of the luma in grey levels, if it was computed before.

        Raises:
            ValueError: The array is no luma of uint8.
        """


def make_indicator(name: str, scales: Sequence[float]) -> Indicator:
    """Build an indicator by name.

    Args:
        name: Name, one of ``INDICATORS``; for ``LEARNT``, the formula that replaces it while nothing is
            learnt.
        scales: Candidate scales in (0, 1] that a frame may be downsampled to.

    Raises:
        ValueError: The name is unknown, or a scale is out of range.
    """
    wrong = [scale for scale in scales if not 0 < scale <= 1]
    if wrong:
        raise ValueError(f"scales {wrong} are out of range: each must be above 0 and at most 1")
    formula = INDICATORS.get(DetailLoss.name if name == LEARNT else name)
    if formula is not None:
        return formula(scales)
    raise ValueError(
        f"unknown complexity indicator {name!r}; choose one of {', '.join((*INDICATORS, LEARNT))}"
    )


class DetailLoss:
    """Fraction of luma variance that is lost by downsampling to a scale and upsampling again.

    For each scale s: ``loss(s) = mean((x - up(down(x, s)))^2) / (var(x) + floor)``, where down averages areas
    (as the store does with a frame) and up interpolates linearly (as the network does with its logits). The
    score is the loss at the smallest candidate scale below 1, or at 0.5 if there is none.
    """

    name = "detail_loss"

    def __init__(self, scales: Sequence[float]) -> None:
        self._scales = tuple(scales)
        self._judged_at = min((scale for scale in scales if scale < 1), default=_REFERENCE_SCALE)

    def measure(
        self, grey: NDArray[np.uint8], bits_per_pixel: float | None = None, deviation: float | None = None
    ) -> Complexity:
        """Score an (h, w) uint8 luma image; a flat one scores 0."""
        check_grey(grey)
        # cv2 is imported on use throughout: its pixel limit can only be set before the first import.
        import cv2

        if deviation is None:
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
            # averaging does, which is quick for whole factors only.
            how = cv2.INTER_LINEAR if scale > 0.5 else cv2.INTER_AREA
            down = cv2.resize(grey, size, interpolation=how)
            up = cv2.resize(down, (w, h), interpolation=cv2.INTER_LINEAR)
            losses[scale] = min(1.0, cv2.norm(grey, up, cv2.NORM_L2SQR) * scale_of_errors)
        return Complexity(
            score=losses[self._judged_at], by_scale={scale: losses[scale] for scale in self._scales}
        )


class EdgeDensity:
    """Fraction of edge pixels: those with Sobel ``|gx| + |gy|`` above a tenth of a black-to-white step."""

    name = "edge_density"

    def measure(
        self, grey: NDArray[np.uint8], bits_per_pixel: float | None = None, deviation: float | None = None
    ) -> Complexity:
        """Score an (h, w) uint8 luma image; a flat one scores 0."""
        check_grey(grey)
        import cv2

        # Replicated borders, so that the frame's rim is never an edge and a single pixel has no gradient.
        gx, gy = cv2.spatialGradient(grey, ksize=3, borderType=cv2.BORDER_REPLICATE)
        edges = np.abs(gx) + np.abs(gy) > _EDGE_STEP * _SOBEL_FULL_STEP
        return Complexity(score=float(np.count_nonzero(edges)) / grey.size, by_scale={})


class LumaEntropy:
    """Shannon entropy of the luma histogram, as a fraction of the 8 bits that a uniform one has."""

    name = "luma_entropy"

    def measure(
        self, grey: NDArray[np.uint8], bits_per_pixel: float | None = None, deviation: float | None = None
    ) -> Complexity:
        """Score an (h, w) uint8 luma image; a flat one scores 0."""
        check_grey(grey)
        import cv2

        counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel()
        shares = counts[counts > 0] / grey.size
        return Complexity(score=float(min(1.0, max(0.0, -(shares * np.log2(shares)).sum() / 8))), by_scale={})


class JpegBitsPerPixel:
    """Bits b that a JPEG encoder needed for a pixel, as ``b / (b + 2)``, which keeps their order.

    Scores are comparable only between frames of one encoder at one quality. A frame that arrived as a JPEG
    costs no computation; any other is encoded here.
    """

    name = "jpeg_bits_per_pixel"

    def measure(
        self, grey: NDArray[np.uint8], bits_per_pixel: float | None = None, deviation: float | None = None
    ) -> Complexity:
        """Score a frame by ``bits_per_pixel``, or an (h, w) uint8 luma image without it."""
        if bits_per_pixel is None:
            check_grey(grey)
            bits_per_pixel = 8 * len(encode_jpeg(grey, _JPEG_QUALITY)) / grey.size
        return Complexity(score=bits_per_pixel / (bits_per_pixel + _TYPICAL_BITS_PER_PIXEL), by_scale={})


class SpectralSlope:
    """Slope of the power spectrum from coarse to fine detail: 1 for white noise, 0 for a spectrum of 1/f^4.

    With a power spectrum of 1/f^a (a is about 2 for natural images: Field, "Relations between the statistics
    of natural images and the response properties of cortical cells", JOSA A 1987) the octave k, counted from
    the finest, holds power in proportion to ``2^(k (a - 2))``. An octave's power is the variance that halving
    the image takes away; a is fitted by least squares to its logarithm.
    """

    name = "spectral_slope"

    def measure(
        self, grey: NDArray[np.uint8], bits_per_pixel: float | None = None, deviation: float | None = None
    ) -> Complexity:
        """Score an (h, w) uint8 luma image; one that is flat or too small for two octaves scores 0."""
        check_grey(grey)
        import cv2

        variances = [_variance(grey)]
        level: NDArray[np.float32] = grey.astype(np.float32)  # rounding at every octave would add up
        while len(variances) <= _OCTAVES and min(level.shape) > 1:
            h, w = level.shape
            size = ((w + 1) // 2, (h + 1) // 2)
            level = np.asarray(cv2.resize(level, size, interpolation=cv2.INTER_AREA), np.float32)
            variances.append(_variance(level))
        if len(variances) < 3 or variances[0] < _ROUNDING:
            return Complexity(score=0.0, by_scale={})
        logs = [log2(max(0.0, fine - coarse) + _VARIANCE_FLOOR) for fine, coarse in pairwise(variances)]
        mean_k, mean_log = (len(logs) - 1) / 2, sum(logs) / len(logs)
        slope = sum((k - mean_k) * (value - mean_log) for k, value in enumerate(logs))
        slope /= sum((k - mean_k) ** 2 for k in range(len(logs)))
        shallow = min(1.0, max(0.0, 1.0 - (2.0 + slope) / _STEEPEST))
        # The spectrum of an almost flat image is rounding noise, which must not count.
        return Complexity(score=shallow * variances[0] / (variances[0] + _VARIANCE_FLOOR), by_scale={})


def label_boundary_density(label: NDArray[np.uint8]) -> float:
    """Return the fraction of labelled pixels whose right or lower neighbour is of another class.

    Args:
        label: Class ids (h, w) uint8; 255 counts neither as a pixel nor as a neighbour.

    Returns:
        A fraction in [0, 1]; 0 for a label of one class or none.
    """
    known = label != IGNORE
    border = np.zeros(label.shape, bool)
    border[:, :-1] = (label[:, :-1] != label[:, 1:]) & known[:, 1:]
    border[:-1] |= (label[:-1] != label[1:]) & known[1:]
    labelled = int(np.count_nonzero(known))
    return int(np.count_nonzero(border & known)) / labelled if labelled else 0.0


def _variance(grey: NDArray[np.uint8] | NDArray[np.float32]) -> float:
    import cv2

    return float(cv2.meanStdDev(grey)[1][0, 0]) ** 2


def grey_reduction(height: int, width: int) -> int:
    """Return the factor that the grey decode is reduced by: the longer side keeps 320 pixels or more."""
    return next((r for r in (8, 4, 2) if max(height, width) >= r * _MEASURED_SIDE), 1)


#: Indicators by the name that ``complexity.indicator`` takes, each built from the candidate scales. A new one
#: is a class with ``name`` and ``measure``, a row here and one in ``names``.
INDICATORS: Mapping[str, Callable[[Sequence[float]], Indicator]] = {
    "detail_loss": DetailLoss,
    "edge_density": lambda scales: EdgeDensity(),
    "luma_entropy": lambda scales: LumaEntropy(),
    "jpeg_bits_per_pixel": lambda scales: JpegBitsPerPixel(),
    "spectral_slope": lambda scales: SpectralSlope(),
}
