"""Rank correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mid_ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """The rank of each value from 1; values that are equal share the mean of their ranks."""
    array = np.asarray(values, np.float64)
    _, group, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2.0)[group]
    return ranks


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation, corrected for ties: Pearson's correlation of the mid-ranks.

    Spearman, "The Proof and Measurement of Association between Two Things" (1904).

    Returns:
        In [-1, 1]; None where there is none: below two values, or all values of a side equal.

    Raises:
        ValueError: the sides differ in length, or a value is not finite.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values cannot be paired")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("values that are not finite have no rank")
    x, y = (ranks - (len(ranks) + 1) / 2 for ranks in (mid_ranks(a), mid_ranks(b)))
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip((x @ y) / norm, -1.0, 1.0)) if norm > 0 else None
