"""Continual-learning metrics against the formulas of their papers, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.images.confusion import miou
from dance_ondevice.training.continual import FadedConfusion, ScoreMatrix, gain_per_kilojoule, recovery_frame

#: Day, dusk, night learnt in turn; the day's best score is not its first.
TURN = ScoreMatrix(
    ("day", "dusk", "night"),
    (0, 1, 2),
    ((0.60, 0.10, 0.05), (0.64, 0.50, 0.10), (0.40, 0.45, 0.55)),
)


def test_average_is_the_mean_of_the_last_row() -> None:
    assert TURN.average == pytest.approx((0.40 + 0.45 + 0.55) / 3)


def test_backward_transfer_compares_with_the_row_in_which_a_task_was_learnt() -> None:
    assert TURN.backward_transfer == pytest.approx(((0.40 - 0.60) + (0.45 - 0.50)) / 2)


def test_forgetting_compares_with_the_best_earlier_score() -> None:
    assert TURN.forgetting == pytest.approx(((0.64 - 0.40) + (0.50 - 0.45)) / 2)
    assert TURN.worst_old == 0.40


def test_a_task_that_comes_again_counts_from_its_first_time() -> None:
    again = ScoreMatrix(("day", "dusk"), (0, 1, 0), ((0.6, 0.1), (0.4, 0.5), (0.7, 0.3)))
    assert again.backward_transfer == pytest.approx(((0.7 - 0.6) + (0.3 - 0.5)) / 2)
    assert again.forgetting == pytest.approx(((0.6 - 0.7) + (0.5 - 0.3)) / 2)
    assert again.worst_old == 0.3


def test_nothing_old_nothing_forgotten() -> None:
    alone = ScoreMatrix(("day",), (0,), ((0.5,),))
    assert (alone.average, alone.backward_transfer, alone.forgetting, alone.worst_old) == (
        0.5,
        0.0,
        0.0,
        None,
    )


scores = st.floats(0, 1)


@given(st.lists(st.tuples(scores, scores), min_size=2, max_size=6))
def test_forgetting_is_never_less_than_what_backward_transfer_lost(rows: list[tuple[float, float]]) -> None:
    matrix = ScoreMatrix(("a", "b"), tuple(index % 2 for index in range(len(rows))), tuple(rows))
    assert matrix.forgetting >= -matrix.backward_transfer - 1e-12


@pytest.mark.parametrize(
    ("tasks", "learnt", "rows"),
    [
        ((), (), ()),
        (("a",), (0,), ()),
        (("a",), (0, 0), ((0.5,),)),
        (("a", "b"), (0,), ((0.5,),)),
        (("a",), (1,), ((0.5,),)),
    ],
)
def test_matrices_that_are_none(tasks: tuple, learnt: tuple, rows: tuple) -> None:
    with pytest.raises(ValueError):
        ScoreMatrix(tasks, learnt, rows)


RIGHT, WRONG = np.array([[10, 0], [0, 10]]), np.array([[0, 10], [10, 0]])


def test_a_faded_confusion_matrix_weighs_a_frame_by_how_long_ago_it_was() -> None:
    faded = FadedConfusion(2, 0.5)
    assert faded.miou == 0.0
    assert faded.add(RIGHT) == 1.0
    faded.add(WRONG)
    # 5 hits of before and 10 misses of now, in each class: IoU 5 / (5 + 10 + 10)
    assert faded.miou == pytest.approx(5 / 25)
    assert faded.add(WRONG) == pytest.approx(2.5 / (2.5 + 15 + 15))


def test_fading_of_one_is_one_matrix_over_all() -> None:
    faded = FadedConfusion(2, 1.0)
    for matrix in (RIGHT, WRONG, RIGHT):
        faded.add(matrix)
    assert faded.miou == pytest.approx(miou(RIGHT + WRONG + RIGHT))
    for wrong in (0.0, 1.1):
        with pytest.raises(ValueError, match="fading"):
            FadedConfusion(2, wrong)


def test_recovered_is_when_the_gain_is_reached_for_good() -> None:
    frozen = [0.3, 0.3, 0.2, 0.2, 0.4]
    assert recovery_frame([0.3, 0.42, 0.2, 0.31, 0.6], frozen, 0.09) == 3
    assert recovery_frame([0.5, 0.5, 0.5, 0.5, 0.5], frozen, 0.09) == 0
    assert recovery_frame([0.5, 0.5, 0.5, 0.5, 0.45], frozen, 0.09) is None
    assert recovery_frame([], [], 0.1) is None
    with pytest.raises(ValueError):
        recovery_frame([0.1], [], 0.1)


def test_points_for_a_kilojoule() -> None:
    assert gain_per_kilojoule(0.05, 500) == pytest.approx(10.0)
    assert gain_per_kilojoule(-0.01, 1000) == pytest.approx(-1.0)
    assert gain_per_kilojoule(0.05, 0) is None
