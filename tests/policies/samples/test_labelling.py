from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.samples.labelling import (
    BINS,
    NEVER,
    calibrate,
    choose_for_labelling,
    retry_after,
    shortlist,
)
from dance_ondevice.policies.samples.splits import SampleInfo


def candidate(index: int, score: float = 0.5, signature: str = "") -> SampleInfo:
    return SampleInfo(
        id=f"c{index:04d}",
        camera="front",
        captured_at=float(index),
        score=score,
        labelled=False,
        signature=signature,
    )


@st.composite
def histograms(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]]]:
    dice = random.Random(draw(st.integers()))
    total = [[dice.choice((0, 0, dice.randint(0, 400))) for _ in range(BINS)] for _ in range(3)]
    skill = draw(st.floats(0, 1))
    correct = [[min(n, int(n * dice.uniform(skill, 1.2))) for n in row] for row in total]
    return correct, total


@given(histograms(), st.sampled_from([0.5, 0.9, 0.99]))
def test_what_is_accepted_agrees_as_often_as_asked_for(
    counts: tuple[list[list[int]], list[list[int]]], target: float
) -> None:
    correct, total = counts
    found = calibrate(correct, total, target=target, default=0.5)
    assert found.pixels == sum(map(sum, total))
    if not found.pixels:
        assert found.thresholds == (0.5,) * 3
        return
    for threshold, right, seen in zip(found.thresholds, correct, total, strict=True):
        assert threshold == NEVER or 0.0 <= threshold < 1.0
        if sum(seen) < 500:
            continue
        steps = range(BINS) if threshold == NEVER else range(round(threshold * BINS))
        if threshold != NEVER:
            first = round(threshold * BINS)
            assert sum(right[first:]) >= target * sum(seen[first:])
        # No lower threshold would have done.
        for lower in steps:
            if seen[lower]:
                assert sum(right[lower:]) < target * sum(seen[lower:])


def test_a_class_that_is_always_wrong_is_never_believed_and_the_others_are() -> None:
    total = [[0] * (BINS - 1) + [1000], [0] * (BINS - 1) + [1000]]
    found = calibrate([[0] * (BINS - 1) + [950], [0] * BINS], total, target=0.9, default=0.5)
    assert found.thresholds == ((BINS - 1) / BINS, NEVER)
    assert found.trusted
    assert found.agreement == pytest.approx(0.95)
    assert not calibrate([[0] * BINS] * 2, total, target=0.9, default=0.5).trusted


def test_a_class_with_few_pixels_takes_the_threshold_of_all() -> None:
    plenty, few = [0] * BINS, [0] * BINS
    plenty[60], few[60] = 10_000, 10
    found = calibrate([plenty, [0] * BINS], [plenty, few], target=0.9, default=0.5)
    assert found.thresholds == (0.6, 0.6)


@given(st.lists(st.floats(0, 1), max_size=300), st.integers(1, 20))
def test_a_shortlist_is_bounded_holds_the_best_and_keeps_the_order(scores: list[float], count: int) -> None:
    store = [candidate(index, score) for index, score in enumerate(scores)]
    listed = shortlist(store, count)
    limit = max(64, 8 * count)
    assert len(listed) == min(len(store), limit) == len({s.id for s in listed})
    assert [s.captured_at for s in listed] == sorted(s.captured_at for s in listed)
    if store:
        assert max(s.score for s in listed) == max(scores)


def test_chance_decides_among_the_better_half_and_is_the_same_every_time() -> None:
    firsts = set()
    for name in range(40):
        store = [
            replace(candidate(i, score=i / 10), id=f"{name}-{i}", captured_at=100.0 * i) for i in range(10)
        ]
        chosen = choose_for_labelling(store, 10)
        assert chosen == choose_for_labelling(store[::-1], 10)
        order = [int(each.partition("-")[2]) for each in chosen.ids]
        assert set(order[:5]) == {5, 6, 7, 8, 9}
        assert order[5:] == [4, 3, 2, 1, 0]
        firsts.add(order[0])
    assert firsts == {5, 6, 7, 8, 9}


def test_near_duplicates_of_labelled_samples_are_not_chosen() -> None:
    labelled = SampleInfo(id="l", camera="front", captured_at=0.0, labelled=True, signature="0000000f")
    chosen = choose_for_labelling(
        [candidate(1, signature="0000000e"), candidate(2, signature="ffffffff")], 5, labelled=[labelled]
    )
    assert chosen.ids == ("c0002",)
    assert chosen.duplicates == ("c0001",)


@given(st.integers(1, 2000))
def test_a_retry_comes_later_and_later_up_to_a_day(failures: int) -> None:
    assert 60.0 <= retry_after(failures).seconds <= retry_after(failures + 1).seconds <= 86_400.0
    assert retry_after(2).seconds == 2 * retry_after(1).seconds
