from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dance_ondevice.policies.promotion.bootstrap import (
    MIN_BLOCKS,
    Bounded,
    Pair,
    compare,
    mean_change,
    time_blocks,
)

counts = st.integers(0, 5000)


def pair(truth: tuple[int, ...], live: tuple[float, ...], candidate: tuple[float, ...]) -> Pair:
    """A sample of which the models get these shares right, and give no class a pixel too many."""
    live_hits = tuple(int(t * share) for t, share in zip(truth, live, strict=True))
    candidate_hits = tuple(int(t * share) for t, share in zip(truth, candidate, strict=True))
    return Pair(
        labelled=truth,
        live_hits=live_hits,
        live_predicted=live_hits,
        candidate_hits=candidate_hits,
        candidate_predicted=candidate_hits,
    )


def noisy(samples: int, gain: float, spread: float, seed: int = 0) -> list[Pair]:
    """Samples over three classes; the candidate's share of right pixels differs by gain +- spread."""
    rng = random.Random(seed)
    found = []
    for _ in range(samples):
        live = rng.uniform(0.3, 0.6)
        candidate = min(1.0, max(0.0, live + gain + rng.uniform(-spread, spread)))
        found.append(pair((4000, 3000, 2000), (live,) * 3, (candidate,) * 3))
    return found


def test_miou_is_that_of_one_confusion_matrix_over_all_samples() -> None:
    # Class 1 is in no label, but predicted: it is not averaged.
    first = Pair(
        labelled=(100, 0, 50),
        live_hits=(50, 0, 50),
        live_predicted=(50, 50, 50),
        candidate_hits=(100, 0, 25),
        candidate_predicted=(125, 0, 25),
    )
    second = Pair(
        labelled=(100, 0, 0),
        live_hits=(100, 0, 0),
        live_predicted=(100, 0, 0),
        candidate_hits=(100, 0, 0),
        candidate_predicted=(100, 0, 0),
    )
    found = compare([first, second], [0, 1])
    assert found.live == pytest.approx((150 / 200 + 50 / 50) / 2)
    assert found.candidate == pytest.approx((200 / 225 + 25 / 50) / 2)
    assert found.gain.point == pytest.approx(found.candidate - found.live)
    assert found.classes[1] is None
    assert found.pixels == (200, 0, 50)


@settings(max_examples=40)
@given(st.lists(st.tuples(counts, counts, counts), min_size=1, max_size=12), st.integers(0, 9))
def test_a_model_against_itself_gains_nothing_with_certainty(
    truths: list[tuple[int, int, int]], seed: int
) -> None:
    rng = random.Random(seed)
    pairs = []
    for truth in truths:
        shares = tuple(rng.random() for _ in truth)
        pairs.append(pair(truth, shares, shares))
    found = compare(pairs, list(range(len(pairs))), draws=100, seed=seed)
    assert found.gain.point == 0.0
    assert found.gain.at_least() == found.gain.at_most() == 0.0


@settings(max_examples=30)
@given(st.integers(2, 20), st.floats(-0.2, 0.2), st.floats(0.0, 0.2), st.integers(0, 99))
def test_bounds_hold_the_figure_and_mirror_each_other(
    samples: int, gain: float, spread: float, seed: int
) -> None:
    pairs = noisy(samples, gain, spread, seed)
    blocks = list(range(samples))
    there = compare(pairs, blocks, draws=200, seed=seed)
    back = compare(
        [
            Pair(
                labelled=p.labelled,
                live_hits=p.candidate_hits,
                live_predicted=p.candidate_predicted,
                candidate_hits=p.live_hits,
                candidate_predicted=p.live_predicted,
            )
            for p in pairs
        ],
        blocks,
        draws=200,
        seed=seed,
    )
    assert there.gain.at_least() <= there.gain.point <= there.gain.at_most()
    assert there.gain.at_least() == pytest.approx(-back.gain.at_most())


def test_a_large_gain_is_sure_and_a_small_one_among_noise_is_not() -> None:
    blocks = list(range(20))
    assert compare(noisy(20, 0.1, 0.05), blocks).gain.at_least() > 0.05
    mixed = [
        each for pair_ in zip(noisy(10, 0.15, 0.0), noisy(10, -0.13, 0.0), strict=True) for each in pair_
    ]
    found = compare(mixed, blocks).gain
    assert found.point > 0.005
    assert found.at_least() < 0.0


def test_the_bound_holds_about_as_often_as_it_says() -> None:
    # With no true gain, a lower bound at 90 % lies above 0 in about one of ten draws of the world.
    false = sum(
        compare(noisy(24, 0.0, 0.2, seed), list(range(24)), draws=200, seed=seed).gain.at_least() > 0
        for seed in range(200)
    )
    assert 6 <= false <= 34


def test_copies_of_a_frame_make_nothing_surer() -> None:
    one_each = noisy(6, 0.02, 0.1)
    many = [each for each in one_each for _ in range(10)]
    blocks = [index for index in range(6) for _ in range(10)]
    blocked = compare(many, blocks)
    assert blocked.units == 6
    assert blocked.gain.at_least() == pytest.approx(compare(one_each, list(range(6))).gain.at_least())
    # Drawn frame by frame they would seem to.
    assert compare(many, list(range(60))).gain.at_least() > blocked.gain.at_least() + 0.01


def test_too_few_blocks_are_drawn_from_as_samples() -> None:
    pairs = noisy(12, 0.05, 0.1)
    few = compare(pairs, [i // 6 for i in range(12)])
    assert (few.unit, few.units) == ("sample", 12)
    enough = compare(pairs, [i % MIN_BLOCKS for i in range(12)])
    assert (enough.unit, enough.units) == ("block", MIN_BLOCKS)


def test_one_sample_has_no_bounds() -> None:
    found = compare(noisy(1, 0.1, 0.0), [0])
    assert found.gain.lower is None
    assert found.gain.at_least() == found.gain.point
    assert Bounded(0.3).at_most() == 0.3


def test_samples_without_a_labelled_pixel_are_no_error() -> None:
    empty = pair((0, 0), (0.0, 0.0), (0.0, 0.0))
    found = compare([empty] * 5, list(range(5)), draws=100)
    assert (found.live, found.candidate, found.gain.point) == (0.0, 0.0, 0.0)
    assert found.classes == (None, None)


def test_a_class_that_is_in_one_block_alone_has_certain_bounds_from_the_draws_that_hold_it() -> None:
    plain = [pair((1000, 0), (0.5, 0.0), (0.6, 0.0)) for _ in range(7)]
    rare = pair((1000, 500), (0.5, 0.8), (0.6, 0.4))
    found = compare([*plain, rare], list(range(8)))
    change = found.classes[1]
    assert change is not None
    assert change.point == pytest.approx(-0.4)
    assert change.at_most() == pytest.approx(-0.4)
    # What stands behind it is told, since the bounds cannot tell it.
    assert found.class_units == (8, 1)


@pytest.mark.parametrize(
    ("pairs", "blocks", "confidence"),
    [([], [], 0.9), (noisy(2, 0, 0), [0], 0.9), (noisy(2, 0, 0), [0, 1], 1.0), (noisy(2, 0, 0), [0, 1], 0.4)],
)
def test_what_cannot_be_compared_says_so(pairs: list[Pair], blocks: list[int], confidence: float) -> None:
    with pytest.raises(ValueError, match=r"."):
        compare(pairs, blocks, confidence=confidence)


def test_counts_of_other_lengths_are_refused() -> None:
    bad = Pair(
        labelled=(1, 2),
        live_hits=(1,),
        live_predicted=(1, 2),
        candidate_hits=(1, 2),
        candidate_predicted=(1, 2),
    )
    with pytest.raises(ValueError, match="2 classes"):
        compare([bad], [0])


def test_blocks_are_of_one_camera_and_last_as_long_as_asked() -> None:
    places = [("a", 0.0), ("a", 1.0), ("b", 1.5), ("a", 4.9), ("a", 5.0), ("a", 30.0), ("b", 1.6)]
    assert time_blocks(places, 5.0) == [0, 0, 3, 0, 1, 2, 3]
    assert time_blocks([], 5.0) == []


def test_the_mean_of_changes_weighs_samples_alike() -> None:
    found = mean_change([0.1, 0.1, 0.1, -0.3], [0, 0, 0, 1])
    assert found.point == pytest.approx(0.0)
    assert found.at_least() < 0 < found.at_most()
    sure = mean_change([0.2] * 8, list(range(8)))
    assert (sure.point, sure.at_least(), sure.at_most()) == pytest.approx((0.2, 0.2, 0.2))
    assert mean_change([0.5], [0]) == Bounded(0.5)
    with pytest.raises(ValueError, match="0 changes"):
        mean_change([], [])
