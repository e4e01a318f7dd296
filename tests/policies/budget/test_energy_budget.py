from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.budget.energy_budget import (
    Account,
    BudgetRules,
    EnergyStatus,
    day_left,
    initial_account,
    may_start,
    must_stop,
    refill,
    reserve,
    settle,
    settle_crashed,
)

RULES = BudgetRules(joules_per_day=86_400.0, minimum_joules=300.0, margin=1.25)  # one joule a second
DAY = 86_400.0
FIT = {"battery_percent": 80.0, "temperature_c": 50.0}

amounts = st.floats(min_value=0.0, max_value=50_000.0)
rules_strategy = st.builds(
    BudgetRules,
    joules_per_day=st.floats(min_value=0.0, max_value=100_000.0),
    cap_days=st.floats(min_value=0.1, max_value=3.0),
    minimum_joules=st.floats(min_value=0.0, max_value=1000.0),
    margin=st.floats(min_value=1.0, max_value=2.0),
)


@given(
    rules_strategy,
    st.lists(st.tuples(st.floats(0, 200_000), amounts), max_size=40),
    st.floats(min_value=0.1, max_value=500.0),
    st.integers(0, 99),
)
def test_all_rounds_together_spend_no_more_than_flowed_in_the_cap_and_one_step(
    rules: BudgetRules, rounds: list[tuple[float, float]], step_joules: float, seed: int
) -> None:
    draw = random.Random(seed)
    now, account, total = 0.0, initial_account(rules, 0.0), 0.0
    for pause, predicted in rounds:
        now += pause
        account = refill(rules, account, now)
        allowance = may_start(
            rules,
            EnergyStatus(
                balance_joules=account.balance_joules,
                predicted_joules=predicted,
                day_left_joules=day_left(rules, account),
            ),
        )
        if not allowance.allowed:
            assert allowance.joules == 0.0
            continue
        account = reserve(account, allowance.joules)
        spent, ends_at = 0.0, draw.uniform(0.0, 2.0 * allowance.joules)
        while spent < ends_at and must_stop(spent, allowance.joules, **FIT) is None:
            spent += max(step_joules, allowance.joules / 50)
        account = settle(account, allowance.joules, spent)
        total += spent
        step = max(step_joules, allowance.joules / 50)
        flowed_in = rules.joules_per_day * now / 86_400.0
        assert total <= flowed_in + rules.cap_joules + step + 1e-6 * total
        assert day_left(rules, account) >= -step - rules.joules_per_day * 1e-6


@given(rules_strategy, st.floats(-1e5, 1e5), st.lists(st.floats(-1e7, 1e7), max_size=20))
def test_refill_never_exceeds_the_cap_and_a_clock_going_backwards_adds_nothing(
    rules: BudgetRules, balance: float, times: list[float]
) -> None:
    account = Account(balance, 0.0)
    for now in times:
        after = refill(rules, account, now)
        assert after.updated_at == now
        assert after.balance_joules <= rules.cap_joules
        if now <= account.updated_at:
            assert after.balance_joules == min(account.balance_joules, rules.cap_joules)
        else:
            due = rules.joules_per_day * (now - account.updated_at) / 86_400.0
            assert after.balance_joules == pytest.approx(min(rules.cap_joules, account.balance_joules + due))
        account = after


def test_after_a_restart_of_the_clock_joules_flow_again() -> None:
    account = refill(RULES, Account(1000.0, 500_000.0), 5.0)
    assert refill(RULES, account, 65.0).balance_joules == pytest.approx(1060.0)


@pytest.mark.parametrize("now", [math.nan, math.inf])
def test_refill_refuses_a_time_that_is_none(now: float) -> None:
    with pytest.raises(ValueError, match="it must be finite"):
        refill(RULES, Account(0.0, 0.0), now)


def test_first_account_is_full() -> None:
    rules = BudgetRules(joules_per_day=1000.0, cap_days=2.0)
    assert initial_account(rules, 7.0) == Account(2000.0, 7.0)


def test_what_a_round_left_comes_back_and_what_it_overspent_is_taken() -> None:
    reserved = reserve(Account(1000.0, 0.0), 400.0)
    assert reserved.balance_joules == 600.0
    assert settle(reserved, 400.0, 150.0).balance_joules == 850.0
    assert settle(reserved, 400.0, 1100.0).balance_joules == -100.0


def test_an_unread_meter_costs_the_whole_reservation() -> None:
    assert settle(Account(600.0, 0.0), 400.0, math.nan).balance_joules == 600.0


@pytest.mark.parametrize("joules", [-1.0, math.nan, math.inf])
def test_a_reservation_is_a_finite_amount(joules: float) -> None:
    with pytest.raises(ValueError, match="must be finite and not negative"):
        reserve(Account(0.0, 0.0), joules)


def status(balance: float = 10_000.0, predicted: float = 1000.0, **changes: Any) -> EnergyStatus:
    return EnergyStatus(balance_joules=balance, predicted_joules=predicted, **(FIT | changes))


@given(rules_strategy, st.floats(-1e4, 1e5), amounts)
def test_an_allowance_is_what_is_predicted_and_a_margin_or_what_is_left(
    rules: BudgetRules, balance: float, predicted: float
) -> None:
    allowance = may_start(rules, status(balance, predicted))
    wanted = predicted * rules.margin or rules.minimum_joules or max(0.0, balance)
    enough = balance > 0 and balance >= min(rules.minimum_joules, rules.cap_joules, wanted)
    assert allowance.allowed == (enough and rules.joules_per_day > 0)
    most = max(wanted, predicted * rules.patience, rules.minimum_joules)
    assert allowance.joules == (min(balance, most) if allowance.allowed else 0.0)


@pytest.mark.parametrize(
    ("at", "joules", "reason"),
    [
        (
            status(),
            2000.0,
            "the round may spend 2,000 J of the 10,000 J that are left; 1,000 J are predicted",
        ),
        (
            status(balance=700.0),
            700.0,
            "the round may spend 700 J of the 700 J that are left, which is all; 1,000 J are predicted",
        ),
        (
            status(predicted=3.0),
            300.0,
            "the round may spend 300 J of the 10,000 J that are left; 3 J are predicted",
        ),
        (
            status(predicted=0.0),
            300.0,
            "the round may spend 300 J of the 10,000 J that are left; there is no prediction yet",
        ),
    ],
)
def test_a_round_may_start_with_less_than_predicted_but_not_without_a_word(
    at: EnergyStatus, joules: float, reason: str
) -> None:
    allowance = may_start(RULES, at)
    assert (allowance.allowed, allowance.joules, allowance.reason) == (True, joules, reason)


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (
            status(balance=120.0),
            "120 J are left and a round needs at least 300 J: enough in 3 min at 86,400 J a day",
        ),
        (
            status(balance=-7100.0),
            "-7,100 J are left and a round needs at least 300 J: enough in 2.1 h at 86,400 J a day",
        ),
        (status(battery_percent=29.9), "the battery is at 29.9 %, below its floor of 30 %"),
        (status(temperature_c=80.5), "the board is at 80.5 °C, above its limit of 80 °C"),
        (
            status(balance=290.0, battery_percent=10.0, temperature_c=90.0),
            "290 J are left and a round needs at least 300 J: enough in 10 s at 86,400 J a day; "
            "the battery is at 10.0 %, below its floor of 30 %; "
            "the board is at 90.0 °C, above its limit of 80 °C",
        ),
        (
            status(battery_percent=20.0, temperature_c=None),
            "the battery is at 20.0 %, below its floor of 30 %; temperature unknown",
        ),
    ],
)
def test_every_obstacle_is_told_with_its_figures(at: EnergyStatus, reason: str) -> None:
    allowance = may_start(RULES, at)
    assert (allowance.allowed, allowance.joules, allowance.reason) == (False, 0.0, reason)


@pytest.mark.parametrize("at_limit", [{"battery_percent": 30.0}, {"temperature_c": 80.0}])
def test_the_floor_and_the_limit_themselves_are_allowed(at_limit: dict[str, float]) -> None:
    assert may_start(RULES, status(**at_limit)).allowed
    assert must_stop(0.0, 100.0, **(FIT | at_limit)) is None


@pytest.mark.parametrize("unknown", [0.0, -1.0, math.nan])
def test_with_neither_prediction_nor_minimum_a_round_may_spend_what_is_left(unknown: float) -> None:
    rules = BudgetRules(joules_per_day=1000.0, minimum_joules=0.0)
    assert may_start(rules, status(balance=400.0, predicted=unknown)).joules == 400.0
    assert not may_start(rules, status(balance=0.0, predicted=unknown)).allowed


def test_no_joules_a_day_means_no_training_and_says_so() -> None:
    allowance = may_start(BudgetRules(joules_per_day=0.0), status(balance=10_000.0))
    assert not allowance.allowed
    assert allowance.reason == "the energy budget is 0 J a day: no training at all"


@pytest.mark.parametrize("unread", [None, math.nan])
def test_unknown_readings_forbid_nothing_but_are_told(unread: float | None) -> None:
    allowance = may_start(RULES, status(battery_percent=unread, temperature_c=unread))
    assert allowance.allowed
    assert allowance.reason.endswith("; battery level unknown; temperature unknown")
    assert must_stop(0.0, 100.0, battery_percent=unread, temperature_c=unread) is None


def test_a_minimum_above_the_cap_does_not_forbid_training_for_ever() -> None:
    rules = BudgetRules(joules_per_day=200.0, minimum_joules=300.0)
    assert may_start(rules, status(balance=200.0)).joules == 200.0
    assert not may_start(rules, status(balance=199.0)).allowed


@pytest.mark.parametrize(
    ("spent", "readings", "reason"),
    [
        (99.0, {}, None),
        (100.0, {}, "100 J are spent of the 100 J that were allowed"),
        (math.nan, {}, "the energy meter gives no figure, so the budget cannot be kept"),
        (0.0, {"battery_percent": 12.0}, "the battery is at 12.0 %, below its floor of 30 %"),
        (0.0, {"temperature_c": 81.0}, "the board is at 81.0 °C, above its limit of 80 °C"),
        (0.0, {"battery_percent": 12.0, "battery_floor_percent": 10.0}, None),
        (0.0, {"temperature_c": 81.0, "max_temperature_c": 95.0}, None),
    ],
)
def test_must_stop(spent: float, readings: dict[str, float], reason: str | None) -> None:
    assert must_stop(spent, 100.0, **(FIT | readings)) == reason


def test_it_stops_before_the_step_that_is_too_much() -> None:
    assert must_stop(90.0, 100.0, step_joules=10.0) is None
    assert must_stop(90.5, 100.0, step_joules=10.0) == (
        "90 J are spent of the 100 J that were allowed, too few for a step of 10 J"
    )


def test_what_hinders_training_forbids_a_start_and_ends_a_round() -> None:
    sagging = ("the supply's voltage is too low",)
    allowance = may_start(RULES, status(hindrances=sagging))
    assert not allowance.allowed
    assert sagging[0] in allowance.reason
    assert must_stop(0.0, 100.0, hindrances=sagging) == sagging[0]


def test_a_full_bucket_and_a_days_inflow_are_not_two_days_joules() -> None:
    account = initial_account(RULES, 0.0)
    account = settle(reserve(account, 86_400.0), 86_400.0, 80_000.0)
    account = refill(RULES, account, DAY / 2)
    assert account.balance_joules == pytest.approx(6400.0 + 43_200.0)
    assert day_left(RULES, account) == pytest.approx(6400.0)
    left = may_start(
        RULES, status(account.balance_joules, 20_000.0, day_left_joules=day_left(RULES, account))
    )
    assert left.joules == pytest.approx(6400.0)
    none = may_start(RULES, status(account.balance_joules, 20_000.0, day_left_joules=10.0))
    assert "10 J are left of the 86,400 J for any 24 hours" in none.reason
    assert day_left(RULES, refill(RULES, account, DAY)) == 86_400.0


def test_a_clock_going_backwards_makes_nothing_older() -> None:
    account = settle(reserve(initial_account(RULES, DAY), 500.0), 500.0, 400.0)
    account = refill(RULES, account, 5.0)
    assert day_left(RULES, refill(RULES, account, DAY)) == pytest.approx(86_000.0)
    assert day_left(RULES, refill(RULES, account, DAY + 5.0)) == pytest.approx(86_400.0)


def test_what_a_crash_left_reserved_is_spent() -> None:
    crashed = settle_crashed(reserve(Account(1000.0, 7.0), 400.0))
    assert crashed == Account(600.0, 7.0, 0.0, ((7.0, 400.0),))
    assert settle_crashed(crashed) is crashed


@pytest.mark.parametrize("seed", range(3))
def test_no_day_of_a_year_is_over_its_budget_by_more_than_a_steps_joules(seed: int) -> None:
    """Random costs, wrong predictions, lost meters, crashes and reboots; a day is any, wherever it begins."""
    draw = random.Random(seed)
    rules = BudgetRules(joules_per_day=20_000.0)
    now, account = 0.0, initial_account(rules, 0.0)
    spends: list[tuple[float, float]] = []  # what was really spent and when
    largest_step, reboots, crashes, stopped = 0.0, 0, 0, 0
    total_time = 0.0
    while total_time + now < 365 * DAY:
        now += draw.expovariate(1 / 3600)
        if draw.random() < 0.02:  # a reboot: the clock starts again at 0
            reboots += 1
            account = refill(rules, account, now)
            total_time, now = total_time + now, 0.0
        account = refill(rules, account, now)
        predicted = draw.lognormvariate(7.5, 1.0)
        allowance = may_start(
            rules,
            EnergyStatus(
                balance_joules=account.balance_joules,
                predicted_joules=predicted,
                day_left_joules=day_left(rules, account),
            ),
        )
        if not allowance.allowed:
            continue
        account = reserve(account, allowance.joules)
        ends_at = predicted * draw.lognormvariate(0.0, 0.5)
        spent, crash, lost = 0.0, draw.random() < 0.05, draw.random() < 0.05
        while spent < ends_at and must_stop(spent, allowance.joules, **FIT) is None:
            step = draw.uniform(0.5, 1.5) * predicted / 60
            largest_step = max(largest_step, step)
            spent += step
            now += step / 8.0  # watts
            spends.append((total_time + now, step))
            if crash and draw.random() < 0.05:
                break
        stopped += spent >= allowance.joules
        account = refill(rules, account, now)
        if crash:
            crashes += 1
            account = settle_crashed(account)
        else:
            account = settle(account, allowance.joules, math.nan if lost else spent)
    assert min(reboots, crashes, stopped) > 20
    total, first, worst = 0.0, 0, 0.0
    for at, joules in spends:
        total += joules
        while spends[first][0] <= at - DAY:
            total -= spends[first][1]
            first += 1
        worst = max(worst, total)
    assert worst <= rules.joules_per_day + largest_step
    assert worst > 0.9 * rules.joules_per_day, "the budget was never reached: the test says nothing"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"joules_per_day": -1.0}, "joules_per_day is -1.0; give 0 or more"),
        ({"joules_per_day": math.nan}, "joules_per_day is nan"),
        ({"cap_days": 0.0}, "cap_days is 0.0; give more than 0"),
        ({"minimum_joules": -1.0}, "minimum_joules is -1.0"),
        ({"margin": 0.9}, "margin is 0.9; give 1 or more"),
    ],
)
def test_impossible_rules_say_what_is_allowed(values: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BudgetRules(**({"joules_per_day": 1000.0} | values))
