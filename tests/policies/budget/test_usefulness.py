from __future__ import annotations

import pytest

from dance_ondevice.policies.budget.usefulness import JudgedRound, suspended, usefulness


def judged(
    outcome: str, before: float | None, after: float | None, frozen: float | None = 0.4
) -> JudgedRound:
    return JudgedRound(outcome=outcome, before=before, after=after, frozen=frozen)


VAIN = judged("rejected", 0.4, 0.38)
HELPED = judged("promoted", 0.4, 0.5)


def test_the_gain_is_of_what_was_live_in_the_end() -> None:
    assert HELPED.gain == pytest.approx(0.1)
    assert VAIN.gain == pytest.approx(0.0)
    assert judged("rolled_back", 0.4, 0.9).gain == pytest.approx(0.0)
    assert judged("failed", None, None).gain is None


def test_the_latest_measurement_counts() -> None:
    found = usefulness([HELPED, judged("rejected", 0.6, 0.5, 0.3), judged("failed", None, None)], 2000.0)
    assert found.gain == pytest.approx(0.3)
    assert found.gain_per_kilojoule == pytest.approx(0.15)
    nothing = usefulness([judged("failed", None, None)], 50.0)
    assert (nothing.gain, nothing.gain_per_kilojoule, nothing.joules) == (None, None, 50.0)
    assert usefulness([HELPED], 0.0).gain_per_kilojoule is None


def test_rounds_that_never_helped_are_suspended_and_say_so() -> None:
    reason = suspended([VAIN] * 3, 3)
    assert reason is not None
    assert "last 3 rounds" in reason
    assert "train-now" in reason
    assert "suspend_after_rounds" in reason


@pytest.mark.parametrize(
    ("rounds", "after"),
    [
        ([VAIN] * 2, 3),  # too early to tell
        ([VAIN] * 9, 0),  # never
        ([VAIN, VAIN, HELPED], 3),
        (
            [HELPED, judged("rejected", 0.5, 0.5), judged("rejected", 0.5, 0.4)],
            3,
        ),  # it helped, and still does
        ([VAIN, VAIN, judged("failed", None, None), judged("stopped", None, None)], 3),  # say nothing
        ([judged("promoted", 0.3, 0.5, None)] * 3, 3),  # the first model does not load
    ],
)
def test_rounds_go_on(rounds: list[JudgedRound], after: int) -> None:
    assert suspended(rounds, after) is None


def test_what_was_rolled_back_did_not_help() -> None:
    assert suspended([judged("rolled_back", 0.4, 0.9)] * 2, 2) is not None


def test_only_the_last_rounds_count_and_a_helpful_one_ends_it() -> None:
    assert suspended([HELPED, VAIN, VAIN], 2) is not None
    assert suspended([VAIN, VAIN, HELPED], 2) is None
    assert suspended([judged("rejected", 0.3, 0.2, None)] * 2, 2) is not None
