from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.budget.learning_value import (
    Expectation,
    PastRound,
    ValueRules,
    Verdict,
    expect,
    train_or_wait,
)

RULES = ValueRules(prior_gain=0.02, memory=0.5, least_gain_per_day=0.002)
gains = st.lists(st.floats(-0.5, 0.5), max_size=12)


def expected(*gains: float, new: int = 64, then: int = 64, joules: float = 1000.0) -> Expectation:
    past = [PastRound(gain=gain, new_samples=then) for gain in gains]
    return expect(RULES, past, new_samples=new, predicted_joules=joules)


def decide(expectation: Expectation, new: int = 64, *, forced: bool = False) -> Verdict:
    return train_or_wait(
        RULES, expectation, joules_per_day=20_000.0, new_samples=new, min_new_samples=64, forced=forced
    )


def test_the_latest_rounds_count_most_and_the_prior_fades() -> None:
    assert expected().gain == pytest.approx(0.02)
    assert expected(0.04).gain == pytest.approx((0.04 + 0.5 * 0.02) / 1.5)
    assert expected(0.04, 0.0).gain < expected(0.0, 0.04).gain
    assert expected(*[0.0] * 30).gain < 1e-9


@given(gains)
def test_an_expectation_lies_within_what_was_seen_and_the_prior(seen: list[float]) -> None:
    gain = expected(*seen).gain
    assert 0.0 <= gain <= max([0.02, *seen]) + 1e-12


def test_more_new_samples_promise_more_within_bounds() -> None:
    assert expected(0.01, new=256).gain > expected(0.01).gain > expected(0.01, new=16).gain
    assert expected(0.01, new=256).gain == expected(0.01, new=25_600).gain
    assert expected(0.01, then=0).gain == expected(0.01).gain


def test_training_goes_on_while_it_pays() -> None:
    verdict = decide(expected(0.01, 0.0, 0.01))
    assert verdict.train
    assert "mIoU is expected for 1,000 J" in verdict.reason


def test_fruitless_rounds_double_the_wait_but_never_for_ever() -> None:
    barren = expected(*[0.0] * 10)
    assert barren.fruitless == 10
    verdict = decide(barren, 100)
    assert not verdict.train
    assert "learning does not pay now" in verdict.reason
    assert "waiting for 1024 new samples, 100 came since the last" in verdict.reason
    assert decide(barren, 1024).train
    assert "waiting for 256 new" in decide(expected(*[0.0] * 6, joules=9000.0)).reason
    assert decide(barren, 100, forced=True).train


def test_gains_too_small_to_pay_are_waited_for_too() -> None:
    small = expected(*[1e-6] * 12)
    assert small.fruitless == 0
    assert not decide(small, 100).train
    assert decide(small, 128).train


def test_a_dear_round_must_gain_more() -> None:
    assert decide(expected(0.005, 0.0, 0.0, joules=2000.0)).train
    assert not decide(expected(*[0.0] * 6, joules=20_000.0)).train


def test_gain_per_joule() -> None:
    assert expected(joules=500.0).gain_per_joule == pytest.approx(0.02 / 500)
    assert expected(joules=0.0).gain_per_joule == math.inf
    assert Expectation(gain=0.0, joules=0.0, fruitless=0).gain_per_joule == 0.0


@pytest.mark.parametrize("values", [{"memory": 1.0}, {"prior_gain": -1.0}, {"least_gain_per_day": math.nan}])
def test_impossible_rules_say_what_is_allowed(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"is (1|-1|nan)"):
        ValueRules(**values)
