"""The learnt indicator of the service: what the live model's card says that it loses on smaller images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dance_ondevice.complexity import LEARNT, Complexity, Indicator
from dance_ondevice.daemon.versions.versions import Live
from dance_ondevice.learnt_loss import LearntLoss, LossWeights

__all__ = ["LiveLoss", "fit_of", "served_by"]


def served_by(name: str, formula: Indicator, live: Callable[[], Live | None]) -> Indicator:
    """Return the indicator of that name in the configuration: the formula, or the learnt one before it.

    Args:
        name: ``complexity.indicator``.
        formula: The formula of that name; for the learnt one, what replaces it.
        live: Returns the live version.
    """
    return LiveLoss(formula, live) if name == LEARNT else formula


def fit_of(card: Mapping[str, Any]) -> LossWeights | None:
    """Return the fit in a card if it ranks frames better than chance; None if not, or if there is none."""
    try:
        found = msgspec.convert(card.get("scale_loss"), LossWeights | None)
    except msgspec.ValidationError:  # a card that was edited by hand; the formula does as well
        return None
    return found if found is not None and found.better_than_chance else None


class LiveLoss:
    """The loss on smaller images that the live model has learnt.

    A formula takes its place while the live version has learnt none, or none that is better than chance.
    Any thread may measure; the fit follows the live version by itself.
    """

    name = LEARNT

    def __init__(self, formula: Indicator, live: Callable[[], Live | None]) -> None:
        """Start with the formula; ``live`` returns the live version from memory."""
        self._formula = formula
        self._live = live
        #: The version that the indicator beside it belongs to; replaced as one, since threads share it.
        self._current: tuple[Live | None, Indicator] = (None, formula)

    def measure(
        self, grey: NDArray[np.uint8], bits_per_pixel: float | None = None, deviation: float | None = None
    ) -> Complexity:
        """Score a frame; the arguments are those of every indicator."""
        live = self._live()
        known, indicator = self._current
        if live is not known:
            fit = fit_of(live.card) if live is not None else None
            indicator = LearntLoss(fit) if fit is not None else self._formula
            self._current = (live, indicator)
        return indicator.measure(grey, bits_per_pixel, deviation)
