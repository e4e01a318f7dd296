from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.rounds.pace import (
    Curve,
    Pace,
    PastPace,
    evaluation_joules,
    evaluation_steps,
    give_up,
    may_finish,
    next_pace,
)

fractions = st.floats(0.0, 1.0)
RISING = Curve(live=0.4, start=0.38, points=((20, 0.42), (40, 0.45), (60, 0.5)), steps=60)
FLAT = Curve(live=0.4, start=0.4, points=((20, 0.44), (40, 0.45), (60, 0.451)), steps=60)
FALLEN = Curve(live=0.4, start=0.4, points=((20, 0.3),), steps=60)


def past(curve: Curve | None, outcome: str = "promoted", pace: Pace | None = None) -> PastPace:
    return PastPace(pace=pace or Pace(), curve=curve, outcome=outcome)


@given(st.integers(1, 10_000))
def test_looks_are_within_the_round_and_not_at_its_end(steps: int) -> None:
    looks = evaluation_steps(steps)
    assert all(0 < look < steps for look in looks)
    assert sorted(set(looks)) == list(looks)
    if looks:
        assert looks[0] * 3 >= steps


@given(fractions, fractions, fractions, st.floats(0.0, 0.1))
def test_a_candidate_that_is_as_good_by_then_always_goes_on(
    live: float, start: float, more: float, noise: float
) -> None:
    assert give_up(live=live, start=start, now=live + more, noise=noise) is None


@pytest.mark.parametrize(
    ("live", "start", "now", "noise", "hopeless"),
    [
        (0.5, 0.5, 0.3, 0.0, True),  # falls
        (0.5, 0.2, 0.2, 0.05, True),  # slimmed too far, and does not recover
        (0.5, 0.3, 0.42, 0.0, False),  # slimmed, recovers fast
        (0.5, 0.5, 0.485, 0.0, False),  # the falling learning rate may make it up
        (0.5, 0.5, 0.45, 0.04, False),  # within the noise
    ],
)
def test_giving_up(live: float, start: float, now: float, noise: float, hopeless: bool) -> None:
    reason = give_up(live=live, start=start, now=now, noise=noise)
    assert (reason is not None) == hopeless
    if reason:
        assert f"mIoU is {now:.3f}" in reason


def test_more_that_is_asked_for_makes_it_give_up_sooner() -> None:
    assert give_up(live=0.5, start=0.5, now=0.5, noise=0.0, min_gain=0.0) is None
    assert give_up(live=0.5, start=0.5, now=0.5, noise=0.0, min_gain=0.1) is not None


def test_a_round_may_finish_after_a_third_if_its_curve_is_above_the_live_model() -> None:
    curve = replace(RISING, points=RISING.points[:1])
    assert may_finish(curve, 25)
    assert not may_finish(curve, 19)
    assert not may_finish(curve, 25, min_gain=0.05)
    assert not may_finish(FALLEN, 25)
    assert not may_finish(replace(RISING, points=()), 25)
    assert not may_finish(None, 25)


def test_joules_set_aside_for_judging() -> None:
    # 48 held-out images are as many passes as two steps over 8 images; half as much again.
    assert evaluation_joules(10.0, gate=48, batch_size=8) == pytest.approx(30.0)
    assert evaluation_joules(10.0, gate=48, batch_size=8, candidates=2) == pytest.approx(50.0)
    assert evaluation_joules(-1.0, gate=48, batch_size=0) == 0.0


def test_the_first_round_goes_at_the_configured_pace() -> None:
    assert next_pace([]) == Pace()
    assert next_pace([past(None), past(RISING)]) == Pace()


def test_a_round_that_lost_ground_halves_the_learning_rate_down_to_an_eighth() -> None:
    rounds: list[PastPace] = []
    rates = []
    for _ in range(5):
        pace = next_pace(rounds)
        rates.append(pace.rate)
        rounds.append(past(FALLEN, "rejected", pace))
    assert rates == [1.0, 0.5, 0.25, 0.125, 0.125]
    assert "learning rate" in next_pace(rounds).reason
    rounds.append(past(RISING, "promoted", Pace(0.125)))
    assert next_pace(rounds).rate == 0.25


def test_a_round_that_diverged_halves_it_too_and_one_that_was_promoted_does_not() -> None:
    assert next_pace([replace(past(None, "failed"), diverged=True)]).rate == 0.5
    assert next_pace([past(FALLEN, "promoted")]).rate == 1.0


def test_steps_that_brought_nothing_twice_are_cut_and_come_back() -> None:
    assert next_pace([past(FLAT)]).steps == 1.0
    cut = next_pace([past(FLAT), past(FLAT)])
    assert cut.steps == 0.75
    assert "75% of the steps" in cut.reason
    again = next_pace([past(FLAT), past(FLAT, pace=cut)])
    assert again.steps == pytest.approx(0.5625)
    least = next_pace([past(FLAT), past(FLAT, pace=Pace(1.0, 0.5))])
    assert least.steps == 0.5
    assert next_pace([past(FLAT, pace=cut), past(RISING, pace=cut)]).steps == 1.0
    # A round that was cut short says nothing of its last third.
    assert next_pace([past(FLAT), past(replace(FLAT, points=FLAT.points[:2]))]).steps == 1.0
