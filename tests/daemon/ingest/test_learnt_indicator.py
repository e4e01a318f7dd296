"""The learnt indicator follows the live version, and a formula stands in where it knows nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from dance_ondevice.complexity import LEARNT, make_indicator
from dance_ondevice.daemon.ingest.learnt_indicator import fit_of, served_by
from dance_ondevice.daemon.versions.versions import Live, Pointer
from dance_ondevice.learnt_loss import LearntLoss, LossWeights

GREY = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)


def weights(agreement: float | None, origin: str, frames: int = 100) -> LossWeights:
    row = tuple(np.random.default_rng(len(origin)).normal(0, 0.01, 144).tolist())
    return LossWeights(
        scales=(0.75, 0.5),
        weights=(row, row),
        bias=(0.0, 0.0),
        typical=(0.1, 0.2),
        spread=(0.1, 0.1),
        frames=frames,
        agreement=agreement,
        origin=origin,
    )


def live(fit: LossWeights | None, **card: Any) -> Live:
    return Live(Pointer("v1", None, "v1"), {"scale_loss": msgspec.to_builtins(fit), **card})


def test_it_follows_the_live_version_and_falls_back_to_the_formula() -> None:
    formula = make_indicator(LEARNT, (1.0, 0.5))
    assert formula.name == "detail_loss"
    now: list[Live | None] = [None]
    indicator = served_by(LEARNT, formula, lambda: now[0])
    by_formula = formula.measure(GREY)
    assert indicator.measure(GREY) == by_formula
    for fit in (weights(0.5, "r1"), weights(0.6, "r22")):
        now[0] = live(fit)
        found = indicator.measure(GREY)
        assert found == LearntLoss(fit).measure(GREY)
        assert found.scored_by == fit.origin
    # No better than chance, not judged, none, edited by hand: as before there was any.
    for card in (live(weights(0.1, "r3")), live(weights(None, "r3")), live(None)):
        now[0] = card
        assert indicator.measure(GREY) == by_formula
    assert fit_of({"scale_loss": "mine"}) is fit_of({}) is None
    assert served_by("detail_loss", formula, lambda: now[0]) is formula


@pytest.mark.parametrize(
    ("agreement", "frames", "good"),
    [(0.17, 100, True), (0.16, 100, False), (0.34, 25, True), (1.0, 2, False)],
)
def test_what_is_better_than_chance_depends_on_the_number_of_frames(
    agreement: float, frames: int, good: bool
) -> None:
    assert weights(agreement, "r", frames).better_than_chance is good
