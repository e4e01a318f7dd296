from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.ranks import mid_ranks, spearman

values = st.lists(st.integers(-5, 5), min_size=2, max_size=30)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert mid_ranks([30.0, 10.0, 30.0, 20.0, 30.0]).tolist() == [4.0, 1.0, 4.0, 2.0, 4.0]


@given(values)
def test_a_mid_rank_is_the_number_below_and_half_of_those_equal(found: list[int]) -> None:
    expected = [sum(b < a for b in found) + (sum(b == a for b in found) + 1) / 2 for a in found]
    assert mid_ranks(found).tolist() == expected


@given(st.permutations(list(range(12))))
def test_without_ties_it_is_the_formula_of_squared_differences(order: list[int]) -> None:
    n = len(order)
    expected = 1 - 6 * sum((i - rank) ** 2 for i, rank in enumerate(order)) / (n * (n * n - 1))
    assert spearman(range(n), order) == pytest.approx(expected)


@given(values, st.randoms())
def test_it_is_symmetric_and_blind_to_what_keeps_the_order(found: list[int], random: object) -> None:
    other = [random.random() for _ in found]
    rho = spearman(found, other)
    assert rho == spearman(other, found)
    if rho is not None:
        assert -1 <= rho <= 1
        assert spearman([value**3 for value in found], [8 * value for value in other]) == pytest.approx(rho)
        assert spearman([-value for value in found], other) == pytest.approx(-rho)


def test_a_known_value_with_ties() -> None:
    # Pearson's correlation of the mid-ranks (1, 2.5, 2.5, 4) and (1, 2, 3, 4).
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / np.sqrt(4.5 * 5.0))


def test_a_side_without_order_has_no_correlation() -> None:
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1], [2]) is None
    assert spearman([], []) is None


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ValueError, match="2 and 1 values"):
        spearman([1, 2], [1])
    with pytest.raises(ValueError, match="not finite"):
        spearman([1, float("nan")], [1, 2])
