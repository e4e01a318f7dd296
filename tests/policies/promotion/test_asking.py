"""What a verdict that fell for want of labels asks for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.promotion.asking import frames_to_label, lacking
from dance_ondevice.policies.promotion.bootstrap import Bounded, Comparison, Pair, compare
from dance_ondevice.policies.promotion.losses import fallen
from dance_ondevice.policies.promotion.rules import GateRules, Group

RULES = GateRules()


def comparison(
    gain: Bounded, *, samples: int = 8, units: int = 4, class_units: tuple[int, ...] = ()
) -> Comparison:
    return Comparison(
        live=0.4,
        candidate=0.4 + gain.point,
        gain=gain,
        classes=(),
        pixels=(),
        samples=samples,
        units=units,
        unit="block",
        class_units=class_units,
    )


def test_the_condition_with_the_widest_bounds_is_asked_for() -> None:
    whole = comparison(Bounded(0.02, -0.01, 0.05), units=8, samples=16)
    day = Group("condition day", comparison(Bounded(0.01, 0.0, 0.02), samples=12))
    dusk = Group("condition dusk", comparison(Bounded(0.03, -0.1, 0.1), samples=4, class_units=(4, 1, 0)))
    found = lacking(whole, (day, dusk), RULES, slimmed=False)
    assert found is not None
    assert (found.group, found.thin) == ("condition dusk", (1,))
    assert found.units == 10  # 8 blocks, half as wide again as they may be: 8 x 1.5^2 in all
    assert frames_to_label(found, 0.2) == 50


def test_a_condition_that_fell_with_too_few_blocks_comes_first() -> None:
    whole = comparison(Bounded(0.02, -0.01, 0.05))
    dusk = Group("condition dusk", comparison(Bounded(-0.2, None, None), samples=2, units=1))
    day = Group("condition day", comparison(Bounded(0.05, 0.01, 0.1)))
    assert [group for group, _ in fallen((day, dusk), RULES)] == [dusk]
    found = lacking(whole, (day, dusk), RULES, slimmed=False)
    assert found is not None
    assert (found.group, found.units) == ("condition dusk", 3)


@given(point=st.floats(-0.5, 0.5), below=st.floats(0, 0.5), slimmed=st.booleans())
def test_a_candidate_that_is_worse_asks_for_nothing(point: float, below: float, slimmed: bool) -> None:
    found = lacking(comparison(Bounded(point, point - below, point)), (), RULES, slimmed=slimmed)
    least = -RULES.slim_tolerance if slimmed else 0.0
    if point <= least or point - below >= least:
        assert found is None
    elif found is not None:
        assert found.units >= 1
        assert frames_to_label(found, 0.2) >= found.units


def test_without_counts_nothing_is_known() -> None:
    assert lacking(None, (), RULES, slimmed=False) is None


def gate(dice: random.Random, *, blocks: int, classes: int, held: int) -> list[Pair]:
    """A gate of a candidate that is neither better nor worse: each class changes at random in each block."""
    where = [dice.sample(range(blocks), held) for _ in range(classes)]
    pairs = []
    for block in range(blocks):
        changes = [dice.gauss(0.0, 0.1) if block in places else None for places in where]
        labelled = tuple(0 if change is None else 1000 for change in changes)
        live = tuple(0 if change is None else 600 for change in changes)
        after = tuple(0 if c is None else int(1000 * min(1.0, max(0.0, 0.6 + c))) for c in changes)
        pairs.append(
            Pair(
                labelled=labelled,
                live_hits=live,
                live_predicted=live,
                candidate_hits=after,
                candidate_predicted=after,
            )
        )
    return pairs


@pytest.mark.parametrize(("blocks", "classes", "held"), [(6, 6, 1), (8, 4, 2)])
def test_few_blocks_of_each_class_do_not_make_chance_look_like_a_gain(
    blocks: int, classes: int, held: int
) -> None:
    dice = random.Random(5)
    gates = [gate(dice, blocks=blocks, classes=classes, held=held) for _ in range(100)]
    found = [compare(pairs, range(blocks), draws=100, seed=n).gain for n, pairs in enumerate(gates)]
    # One in ten by the confidence of the bound; some more for chance among a hundred.
    assert sum(gain.at_least() > 0 for gain in found) <= 18


def test_what_one_block_alone_has_lost_counts_and_what_it_has_gained_does_not() -> None:
    def pair(first: tuple[int, int], second: tuple[int, int] | None) -> Pair:
        hits = (first, second or (0, 0))
        live, after = tuple(h[0] for h in hits), tuple(h[1] for h in hits)
        return Pair(
            labelled=(100, 100 if second else 0),
            live_hits=live,
            live_predicted=live,
            candidate_hits=after,
            candidate_predicted=after,
        )

    others = [pair((50, 50), None) for _ in range(5)]
    gained = compare([pair((50, 50), (50, 90)), *others], range(6)).gain
    lost = compare([pair((50, 50), (50, 10)), *others], range(6)).gain
    assert gained.point > 0.15
    assert gained.at_least() <= 0.0
    assert lost.at_least() <= lost.point < -0.1
