from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.fleet.rules import (
    FleetRules,
    Tally,
    Vote,
    Waiting,
    clip_factor,
    decide,
    due,
    is_better,
    miou,
    next_share,
    staleness,
    weight,
)

RULES = FleetRules()
counts = st.lists(st.lists(st.integers(0, 1000), min_size=3, max_size=3), min_size=3, max_size=3)


@given(st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40))
def test_no_claim_outweighs_the_cap(one: int, other: int) -> None:
    assert 1.0 <= weight(RULES, one) <= RULES.most_samples**0.5
    if one <= other:
        assert weight(RULES, one) <= weight(RULES, other)


def test_goes_part_of_the_way_where_all_of_it_was_refused() -> None:
    assert next_share(()) == 1.0
    assert next_share(("rejected",)) == 0.5
    for ended in (("promoted",), ("rejected", "promoted"), ("rejected", "rolled_back"), ("rejected",) * 2):
        assert next_share(ended) is None


@given(st.integers(-5, 50))
def test_what_is_older_counts_less_and_then_nothing(behind: int) -> None:
    found = staleness(RULES, behind)
    if behind < 0 or behind > RULES.oldest_base:
        assert found is None
    else:
        assert found is not None
        assert 0 < found <= 1
        newer = staleness(RULES, behind - 1)
        assert newer is None or found < newer


#: No length is so near to 0 that its factor has no more digits.
LENGTHS = st.just(0.0) | st.floats(1e-100, 1e6) | st.sampled_from([float("inf"), float("nan")])


@given(st.lists(LENGTHS, min_size=1, max_size=9))
def test_a_long_change_is_shortened_to_a_multiple_of_the_median(norms: list[float]) -> None:
    finite = sorted(n for n in norms if n < float("inf"))
    for norm in norms:
        factor = clip_factor(RULES, norm, norms)
        assert 0 <= factor <= 1
        if not norm < float("inf"):
            assert factor == 0
        elif norm <= finite[(len(finite) - 1) // 2]:
            assert factor == 1
        else:
            assert factor * norm <= RULES.norm_multiple * finite[len(finite) // 2] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("boards", "waited", "expected"),
    [
        (["a", "b", "c"], 0.0, True),
        (["a", "a", "b"], 0.0, False),
        (["a", "b"], RULES.longest_wait_s, True),
        (["a", "a"], 10 * RULES.longest_wait_s, False),
        ([], 0.0, False),
    ],
)
def test_a_version_is_due(boards: list[str], waited: float, expected: bool) -> None:
    assert due(RULES, [Waiting(board, waited) for board in boards]) is expected


@given(counts)
def test_the_same_counts_are_no_gain(matrix: list[list[int]]) -> None:
    assert 0 <= miou(matrix) <= 1
    assert not is_better(RULES, matrix, matrix)


def test_publishes_what_gains_on_the_same_pixels() -> None:
    before, after = [[6, 4], [5, 5]], [[8, 2], [3, 7]]
    assert is_better(RULES, after, before)
    assert not is_better(RULES, before, after)
    with pytest.raises(ValueError, match="other pixels"):
        is_better(RULES, after, [[6, 5], [5, 5]])


def test_a_board_with_classes_of_its_own_has_a_vote_and_no_more_than_one() -> None:
    """Pixels of a class that the fleet lacks are taken for its classes: more than there are of these."""

    def tally(truth: int, predicted: int, hits: int) -> Tally:
        return Tally(truth=(truth,) * 2, predicted=(predicted,) * 2, hits=(hits,) * 2)

    own = Vote(board="own", candidate=tally(10, 60, 9), published=tally(10, 70, 8))
    assert own.candidate.fault(2) == ""
    assert tally(0, 9, 0).fault(2)
    assert tally(1 << 36, 1, 1).fault(2)
    assert tally(10, 1 << 36, 1).fault(2)
    plain = [Vote(board=b, candidate=tally(100, 100, 90), published=tally(100, 100, 80)) for b in "abc"]
    assert decide(RULES, [*plain, own], volunteers=4, waited_s=0.0).outcome == "published"
    # What a board claims to have been segmented is held to what others have, as what is labelled is.
    worse = [Vote(board=b, candidate=tally(100, 100, 60), published=tally(100, 100, 80)) for b in "abcdefgh"]
    liar = Vote(board="liar", candidate=tally(10, 10, 10), published=tally(10, 1 << 34, 0))
    assert decide(RULES, [*worse, liar], volunteers=9, waited_s=0.0).outcome == "declined"
