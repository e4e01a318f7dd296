"""Loss of mIoU that downsampling costs one model on a frame, predicted from the frame's grey image.

It is learnt from the losses that were measured on labelled frames (:func:`learn_loss`) and judged on groups
of frames, such as drives or lights, that it has not learnt from. It needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.complexity import Complexity
from dance_ondevice.ranks import spearman

#: Cells (rows, columns) of the learnt loss's features, and pixels of a cell's side.
_CELLS = (6, 8)
_CELL_SIDE = 40
#: Grey levels added to a cell's detail before its logarithm: about the level of sensor noise.
_DETAIL_FLOOR = 1.0
#: Least deviation of a feature that is scaled up to variance 1.
_LEAST_DEVIATION = 0.05
#: Strengths of the ridge penalty that are tried, for features of variance 1.
_RIDGES = tuple(10.0**power for power in range(-1, 6))
#: Number of blocks of time in the cross-validation of the penalty.
_BLOCKS = 10
#: Least spread of predicted losses.
_ROUNDING = 1e-6
#: Standard deviations of a rank correlation by chance, 1 / sqrt(n - 1), that a fit must be above: the
#: one-sided bound of 95 %.
_BEYOND_CHANCE = 1.645


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights from :func:`learn_loss`: plain numbers, to be stored beside the model that they belong to.

    Attributes:
        scales: Scales that the losses were measured at.
        weights: Weights by scale, one for each number of :func:`describe`.
        bias: Bias by scale.
        typical: Mean of the measured losses by scale.
        spread: Deviation of the predicted losses by scale, above 0.
        frames: Number of frames that they are learnt from; 0 if unknown.
        agreement: Rank correlation at the smallest scale of predicted and measured losses, on groups of
            frames that were left out; None if it is not known.
        origin: What it was fitted in, such as a round; "" if unknown.
    """

    scales: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    typical: tuple[float, ...]
    spread: tuple[float, ...]
    frames: int = 0
    agreement: float | None = None
    origin: str = ""

    @property
    def better_than_chance(self) -> bool:
        """Return whether it ranks frames of other groups better than chance would, with 95 % confidence."""
        if self.agreement is None or self.frames < 3:
            return False
        return self.agreement > _BEYOND_CHANCE / math.sqrt(self.frames - 1)


class LearntLoss:
    """Loss of mIoU predicted for one model on a frame, from the position of detail in the frame.

    Formulas count all detail equally, but downsampled leaves cost no mIoU and poles do, and the cost differs
    between cameras and models. So this is a linear map of brightness and detail by cell of the frame, learnt
    from some hundreds of measured losses.
    """

    name = "learnt_loss"

    def __init__(self, learnt: LossWeights) -> None:
        self._origin = learnt.origin
        self._scales = learnt.scales
        self._weights = np.asarray(learnt.weights, np.float32)
        self._bias = np.asarray(learnt.bias, np.float32)
        self._typical = np.asarray(learnt.typical, np.float32)
        self._spread = np.asarray(learnt.spread, np.float32)
        self._judged_at = int(np.argmin(learnt.scales))

    def measure(
        self, grey: NDArray[np.uint8], bits_per_pixel: float | None = None, deviation: float | None = None
    ) -> Complexity:
        """Score an (h, w) uint8 luma image: 0.5 for a typical loss at the smallest scale."""
        losses = self._weights @ describe(grey) + self._bias
        # The logistic function, written so that nothing overflows.
        scores = 0.5 + 0.5 * np.tanh((losses - self._typical) / (2 * self._spread))
        return Complexity(
            score=float(scores[self._judged_at]),
            by_scale=dict(zip(self._scales, np.clip(losses, 0.0, 1.0).tolist(), strict=True)),
            scored_by=self._origin,
        )


def describe(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the features of the learnt loss: brightness, horizontal and vertical detail by cell.

    Args:
        grey: Luma (h, w) uint8 of any size from 1x1; it is resized to 320x240 first.

    Returns:
        Features (144,) float32: by row and column of 6x8 cells, mean luma / 64, then the logarithm of the
        mean absolute difference to the right neighbour, then to the lower one.
    """
    import cv2

    rows, columns = _CELLS
    small = cv2.resize(grey, (columns * _CELL_SIDE, rows * _CELL_SIDE), interpolation=cv2.INTER_AREA)
    steps = np.zeros((2, *small.shape), np.uint8)
    cv2.absdiff(small[:, 1:], small[:, :-1], dst=steps[0, :, :-1])
    cv2.absdiff(small[1:], small[:-1], dst=steps[1, :-1])
    luma, across, down = (
        cv2.resize(plane.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA).ravel()
        for plane in (small, *steps)
    )
    return np.concatenate([luma / 64, np.log(across + _DETAIL_FLOOR), np.log(down + _DETAIL_FLOOR)])


def learn_loss(
    descriptions: NDArray[np.float32],
    losses: NDArray[np.float64],
    scales: Sequence[float],
    groups: Sequence[int] | None = None,
) -> LossWeights:
    """Learn to predict the loss of a frame from its features.

    The method is ridge regression on features of variance 1. Its penalty is chosen for each scale by
    cross-validation over groups: neighbours in a video are so similar that leaving out one frame at a time
    would overfit to a minute of video.

    Args:
        descriptions: Features (n, d), one :func:`describe` for each frame, in order of time.
        losses: Losses (n, s) of each frame at each scale.
        scales: The s scales.
        groups: Group of each frame, such as its drive or light; blocks of time by default.

    Raises:
        ValueError: The shapes do not fit, or there are fewer than 3 frames.
    """
    n = len(descriptions)
    if n < 3 or losses.shape != (n, len(scales)):
        raise ValueError(
            f"{descriptions.shape} descriptions and {losses.shape} losses at {len(scales)} scales: "
            "give a loss for each scale of each frame, and 3 frames or more"
        )
    mean, typical = descriptions.mean(axis=0, dtype=np.float64), losses.mean(axis=0)
    # A feature that hardly varied must not decide alone when it varies later.
    deviation = np.maximum(descriptions.std(axis=0, dtype=np.float64), _LEAST_DEVIATION)
    features = (descriptions - mean) / deviation
    errors = np.zeros((len(_RIDGES), len(scales)))
    for away in _folds(n, groups):
        x, y = features[~away], losses[~away]
        predicted = (features[away] - x.mean(axis=0)) @ _ridge(x, y) + y.mean(axis=0)
        errors += ((predicted - losses[away]) ** 2).sum(axis=1)
    weights = _ridge(features, losses)[errors.argmin(axis=0), :, np.arange(len(scales))]
    spread = (features @ weights.T).std(axis=0)
    weights /= deviation
    return LossWeights(
        scales=tuple(scales),
        weights=tuple(tuple(row) for row in weights.tolist()),
        bias=tuple((typical - weights @ mean).tolist()),
        typical=tuple(typical.tolist()),
        spread=tuple(np.maximum(spread, _ROUNDING).tolist()),
        frames=n,
    )


def out_of_group(
    descriptions: NDArray[np.float32],
    losses: NDArray[np.float64],
    scales: Sequence[float],
    groups: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """Predict how far the losses (n, s) of frames lie from the typical one, each from other groups alone.

    Nothing of a group takes part in its own predictions, the choice of the penalty included. Groups are put
    together into a few folds. The typical loss of the other groups is left out on purpose: it is the lower,
    the higher the losses of the group itself are, so that predictions with it rank groups backwards where
    nothing was learnt. The arguments and errors are those of :func:`learn_loss`.
    """
    found = np.zeros(losses.shape)
    for away in _folds(len(descriptions), groups):
        others = None if groups is None else [g for g, gone in zip(groups, away, strict=True) if not gone]
        learnt = learn_loss(descriptions[~away], losses[~away], scales, others)
        predicted = descriptions[away] @ np.asarray(learnt.weights).T + np.asarray(learnt.bias)
        found[away] = predicted - np.asarray(learnt.typical)
    return found


def judged_fit(
    descriptions: NDArray[np.float32],
    losses: NDArray[np.float64],
    scales: Sequence[float],
    groups: Sequence[int] | None = None,
) -> LossWeights:
    """Learn the loss, and tell how well weights so learnt rank frames of other groups at the smallest scale.

    The arguments and errors are those of :func:`learn_loss`.
    """
    learnt = learn_loss(descriptions, losses, scales, groups)
    at = int(np.argmin(scales))
    predicted = out_of_group(descriptions, losses, scales, groups)[:, at]
    return replace(learnt, agreement=spearman(predicted.tolist(), losses[:, at].tolist()))


def _folds(n: int, groups: Sequence[int] | None) -> Iterator[NDArray[np.bool_]]:
    """Yield, for each of at most ``_BLOCKS`` folds, which of n frames are left out: whole groups."""
    found = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(found.max()) + 1
    fold = found * min(_BLOCKS, count) // count
    for number in range(int(fold.max()) + 1):
        away = fold == number
        if not away.all():
            yield away


def _ridge(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the weights (r, d, s) of every penalty for features (n, d) and targets (n, s), centred here.

    See Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning" (2009), section 3.4.1.
    """
    u, sizes, directions = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    projected = u.T @ (y - y.mean(axis=0))
    return np.stack([directions.T @ ((sizes / (sizes**2 + ridge))[:, None] * projected) for ridge in _RIDGES])
