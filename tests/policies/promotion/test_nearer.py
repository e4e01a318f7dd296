"""When a nearer candidate is tried: never for what is better, always for what is worse in all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.promotion.bootstrap import Pair, compare
from dance_ondevice.policies.promotion.nearer import costs_too_much
from dance_ondevice.policies.promotion.rules import GateRules

RULES = GateRules()
#: Share of right pixels of two classes, by sample, in percent.
SHARES = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=2, max_size=8)


def pair(live: tuple[int, int], candidate: tuple[int, int], pixels: int = 1000) -> Pair:
    """A sample of two classes that are confused with nothing."""
    labelled = (pixels, pixels)
    right = [tuple(share * pixels // 100 for share in shares) for shares in (live, candidate)]
    return Pair(
        labelled=labelled,
        live_hits=right[0],
        live_predicted=right[0],
        candidate_hits=right[1],
        candidate_predicted=right[1],
    )


@given(SHARES, st.integers(0, 20))
def test_what_is_no_worse_anywhere_is_taken_as_it_is(shares: list[tuple[int, int]], better: int) -> None:
    pairs = [pair(each, (min(100, each[0] + better), each[1])) for each in shares]
    assert not costs_too_much(compare(pairs, range(len(pairs)), draws=100), RULES, [(0.5, 0.5)])


@given(SHARES)
def test_what_is_worse_in_all_is_not(shares: list[tuple[int, int]]) -> None:
    pairs = [pair((first + 1, second + 1), (first, second)) for first, second in shares]
    assert costs_too_much(compare(pairs, range(len(pairs)), draws=100), RULES)


def test_a_condition_or_a_class_may_cost_too_much_where_the_whole_gains() -> None:
    gains = compare([pair((60, 60), (70, 58))] * 6, range(6))
    assert not costs_too_much(gains, RULES, [(0.5, 0.49), (0.4, 0.5)])
    assert costs_too_much(gains, RULES, [(0.5, 0.47), (0.4, 0.5)])
    assert costs_too_much(compare([pair((60, 60), (80, 50))] * 6, range(6)), RULES)
    exactly = compare([pair((80, 60), (75, 75))] * 6, range(6))
    assert not costs_too_much(exactly, RULES, [(0.17, 0.15)]), "no more than is allowed"
    few = [pair((60, 60), (80, 50), pixels=100)] * 6
    assert not costs_too_much(compare(few, range(6)), RULES), "a class of few pixels is noise"
    varied = [pair((60, 60), (90, 90)), *[pair((60, 60), (80, 20))] * 2, pair((60, 60), (90, 70))]
    assert not costs_too_much(compare(varied, range(4)), RULES), "its fall may be chance"
