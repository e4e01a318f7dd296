"""Energy budget: may a round start, how many joules may it spend, must it stop now.

The budget is a token bucket: joules flow in evenly over the day up to a cap, rounds take them out. A second
limit holds for any 24 hours, since a full bucket and a day's inflow would be two days' joules in one day. A
round's joules are reserved before it starts and settled when it ends, so a power cut never refunds them. All
figures are gross joules, those of the whole board while the round runs, idle power included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

__all__ = [
    "Account",
    "Allowance",
    "BudgetRules",
    "EnergyStatus",
    "day_left",
    "initial_account",
    "labelling_spent",
    "may_start",
    "must_stop",
    "refill",
    "reserve",
    "settle",
    "settle_crashed",
]

_SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetRules:
    """Energy budget from the configuration.

    Attributes:
        joules_per_day: Joules that training may spend in any 24 hours; 0 means no training at all.
        cap_days: Days' worth of unspent joules that the account keeps; they never raise the day's limit.
        minimum_joules: Least allowance with which a round starts; it may be below the predicted joules.
        margin: Factor by which the available joules must exceed the prediction of a planned round, 1 or more.
        patience: Factor on the prediction up to which a round may spend if so much is available and it is
            more than `margin`: a busy board takes longer, and the joules of an interrupted round are wasted.
            A round of few joules may spend `minimum_joules` in any case: most of them are the start of its
            process, which takes several times as long when the board is busy.

    Raises:
        ValueError: a value is out of range.
    """

    joules_per_day: float
    cap_days: float = 1.0
    minimum_joules: float = 300.0
    margin: float = 1.25
    patience: float = 2.0

    def __post_init__(self) -> None:
        for name, least in (
            ("joules_per_day", 0.0),
            ("minimum_joules", 0.0),
            ("margin", 1.0),
            ("patience", 1.0),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                raise ValueError(f"{name} is {value}; give {least:g} or more")
        if not (math.isfinite(self.cap_days) and self.cap_days > 0.0):
            raise ValueError(f"cap_days is {self.cap_days}; give more than 0")

    @property
    def cap_joules(self) -> float:
        """Return the most that the account can hold, in joules."""
        return self.joules_per_day * self.cap_days


@dataclass(frozen=True, slots=True)
class Account:
    """Account of the joules that training may still spend.

    Attributes:
        balance_joules: Joules in the bucket; below 0 when a round spent more than it reserved.
        updated_at: Time of the last refill, in seconds of a clock that is independent of the calendar.
        reserved_joules: Joules reserved for the running round; they are taken out of the balance already.
        spent: Time and joules of each expense, oldest first, for the 24 hours up to `updated_at`.
        labelling: Those expenses among `spent` that labelling on the board caused.
        reserved_for_labelling: True if `reserved_joules` are for labelling.
    """

    balance_joules: float
    updated_at: float
    reserved_joules: float = 0.0
    spent: tuple[tuple[float, float], ...] = ()
    labelling: tuple[tuple[float, float], ...] = ()
    reserved_for_labelling: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyStatus:
    """Account, prediction and readings of the board at the moment when a round asks to start.

    Attributes:
        balance_joules: Balance of the account, just refilled.
        predicted_joules: Predicted gross joules of the round; 0 without a prediction.
        day_left_joules: Joules that may still be spent in the 24 hours up to now; see `day_left`.
        battery_percent: Charge of the battery in percent; None (or not a number) if unknown.
        temperature_c: Temperature of the hottest zone in degrees Celsius; None (or not a number) if unknown.
        battery_floor_percent: Charge below which no training runs.
        max_temperature_c: Temperature above which no training runs.
        hindrances: Other reasons that forbid training now, in words, such as a supply voltage that is too
            low.
    """

    balance_joules: float
    predicted_joules: float
    day_left_joules: float = math.inf
    battery_percent: float | None = None
    temperature_c: float | None = None
    battery_floor_percent: float = 30.0
    max_temperature_c: float = 80.0
    hindrances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Allowance:
    """Permission of a round: whether it may start, its gross joules (0 if not), and the reason in words."""

    allowed: bool
    joules: float
    reason: str


def initial_account(rules: BudgetRules, now: float) -> Account:
    """Return the account of a service that starts for the first time, filled up to the cap.

    Args:
        rules: Energy budget from the configuration.
        now: Time in seconds, of the same clock that `refill` gets.
    """
    return Account(rules.cap_joules, now)


def refill(rules: BudgetRules, account: Account, now: float) -> Account:
    """Add the joules that are due since the last refill, up to the cap.

    A clock that goes backwards, as it does when a board restarts, adds nothing and makes no expense older.

    Raises:
        ValueError: `now` is not finite.
    """
    if not math.isfinite(now):
        raise ValueError(f"the time is {now}; it must be finite")
    elapsed = max(0.0, now - account.updated_at)
    due = rules.joules_per_day * elapsed / _SECONDS_PER_DAY
    back = min(0.0, now - account.updated_at)

    def of_the_day(spent: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        return tuple((at + back, joules) for at, joules in spent if at + back > now - _SECONDS_PER_DAY)

    return replace(
        account,
        balance_joules=min(rules.cap_joules, account.balance_joules + due),
        updated_at=now,
        spent=of_the_day(account.spent),
        labelling=of_the_day(account.labelling),
    )


def day_left(rules: BudgetRules, account: Account) -> float:
    """Return the joules left in the 24 hours up to `account.updated_at`; below 0 if overspent.

    A round counts with all its joules when it ends, and with its reservation while it runs. So in any 24
    hours at most `rules.joules_per_day` are spent, plus what the last round overspent.
    """
    return rules.joules_per_day - account.reserved_joules - sum(joules for _, joules in account.spent)


def labelling_spent(account: Account) -> float:
    """Return the joules that labelling spent in the 24 hours up to `account.updated_at`."""
    return sum(joules for _, joules in account.labelling)


def reserve(account: Account, joules: float, *, labelling: bool = False) -> Account:
    """Reserve the joules of a round (or of labelling, if `labelling` is true) before it starts.

    Raises:
        ValueError: `joules` is negative or not finite.
    """
    reserved = account.reserved_joules + _amount("joules", joules)
    return replace(
        account,
        balance_joules=account.balance_joules - joules,
        reserved_joules=reserved,
        reserved_for_labelling=labelling,
    )


def settle(account: Account, reserved_joules: float, spent_joules: float) -> Account:
    """Settle a finished round: put back the unspent part of its reservation, or take out its excess.

    Args:
        account: Account from which `reserved_joules` were taken.
        reserved_joules: Joules reserved for this round.
        spent_joules: Gross joules that it spent; not a number if the meter gave no figure, in which case the
            whole reservation counts as spent.

    Raises:
        ValueError: a figure is negative or infinite.
    """
    reserved = _amount("reserved_joules", reserved_joules)
    spent = reserved if math.isnan(spent_joules) else _amount("spent_joules", spent_joules)
    return replace(
        _spend(account, spent),
        balance_joules=account.balance_joules + reserved - spent,
        reserved_joules=max(0.0, account.reserved_joules - reserved),
    )


def settle_crashed(account: Account) -> Account:
    """Count all reserved joules as spent: the service settles so at its start what a crash left reserved."""
    if account.reserved_joules == 0.0:
        return account
    return replace(_spend(account, account.reserved_joules), reserved_joules=0.0)


def _spend(account: Account, joules: float) -> Account:
    """Record joules as spent now, as labelling's if they were reserved for it."""
    entry = (account.updated_at, joules)
    return replace(
        account,
        spent=(*account.spent, entry),
        labelling=(*account.labelling, entry) if account.reserved_for_labelling else account.labelling,
        reserved_for_labelling=False,
    )


def may_start(rules: BudgetRules, status: EnergyStatus) -> Allowance:
    """Decide whether a round may start and how many joules it may spend.

    It may spend the predicted joules and some patience, or the rest if that is less. The reason names every
    obstacle. An unknown battery or temperature is no obstacle, but is mentioned.
    """
    obstacles = _conditions(
        status.battery_percent, status.battery_floor_percent, status.temperature_c, status.max_temperature_c
    )
    obstacles.extend(status.hindrances)
    left = min(status.balance_joules, status.day_left_joules)
    predicted = max(0.0, status.predicted_joules) if _is_known(status.predicted_joules) else 0.0
    # Without a prediction a round gets only the least allowance with which rounds start.
    wanted = predicted * rules.margin or rules.minimum_joules or max(0.0, left)
    # A minimum above the cap would silently forbid training for ever; the cap is enough then.
    needed = min(rules.minimum_joules, rules.cap_joules, wanted)
    if rules.joules_per_day == 0.0:
        obstacles.insert(0, "the energy budget is 0 J a day: no training at all")
    elif (left <= 0.0 or left < needed) and status.day_left_joules < status.balance_joules:
        obstacles.insert(
            0,
            f"{max(0.0, left):,.0f} J are left of the {rules.joules_per_day:,.0f} J for any 24 hours and a "
            f"round needs at least {needed:,.0f} J: more when expenses are older than 24 hours",
        )
    elif left <= 0.0 or left < needed:
        wait = (needed - left) / rules.joules_per_day * _SECONDS_PER_DAY
        obstacles.insert(
            0,
            f"{left:,.0f} J are left and a round needs at least {needed:,.0f} J: enough in "
            f"{_duration(wait)} at {rules.joules_per_day:,.0f} J a day",
        )
    unknown = _unknown(status)
    if obstacles:
        return Allowance(False, 0.0, "; ".join([*obstacles, *unknown]))
    joules = min(left, max(wanted, predicted * rules.patience, rules.minimum_joules))
    basis = f"{predicted:,.0f} J are predicted" if predicted > 0.0 else "there is no prediction yet"
    whole = ", which is all" if joules < wanted else ""
    reason = f"the round may spend {joules:,.0f} J of the {left:,.0f} J that are left{whole}; {basis}"
    return Allowance(True, joules, "; ".join([reason, *unknown]))


def must_stop(
    spent_joules: float,
    allowance_joules: float,
    *,
    step_joules: float = 0.0,
    battery_percent: float | None = None,
    temperature_c: float | None = None,
    battery_floor_percent: float = 30.0,
    max_temperature_c: float = 80.0,
    hindrances: Sequence[str] = (),
) -> str | None:
    """Return why a running round must stop now, None if it may go on.

    Args:
        spent_joules: Gross joules of the round so far; not a number (the meter gives no figure) stops it.
        allowance_joules: Joules that it may spend.
        step_joules: Predicted joules of its next step: it stops before a step that would exceed the
            allowance.
        battery_percent: Charge of the battery in percent; None (or not a number) if unknown.
        temperature_c: Temperature in degrees Celsius; None (or not a number) if unknown.
        battery_floor_percent: Charge below which it stops.
        max_temperature_c: Temperature above which it stops.
        hindrances: Other reasons that forbid training now, in words.
    """
    obstacles = _conditions(battery_percent, battery_floor_percent, temperature_c, max_temperature_c)
    obstacles.extend(hindrances)
    if math.isnan(spent_joules):
        obstacles.insert(0, "the energy meter gives no figure, so the budget cannot be kept")
    elif spent_joules >= allowance_joules or spent_joules + step_joules > allowance_joules:
        next_step = (
            "" if spent_joules >= allowance_joules else f", too few for a step of {step_joules:,.0f} J"
        )
        obstacles.insert(
            0,
            f"{spent_joules:,.0f} J are spent of the {allowance_joules:,.0f} J that were allowed{next_step}",
        )
    return "; ".join(obstacles) or None


def _conditions(
    battery: float | None, battery_floor: float, temperature: float | None, max_temperature: float
) -> list[str]:
    """Return what forbids training apart from the budget; unknown readings forbid nothing."""
    obstacles: list[str] = []
    if _is_known(battery) and battery < battery_floor:
        obstacles.append(f"the battery is at {battery:.1f} %, below its floor of {battery_floor:g} %")
    if _is_known(temperature) and temperature > max_temperature:
        obstacles.append(f"the board is at {temperature:.1f} °C, above its limit of {max_temperature:g} °C")
    return obstacles


def _unknown(status: EnergyStatus) -> list[str]:
    readings = (("battery level", status.battery_percent), ("temperature", status.temperature_c))
    return [f"{name} unknown" for name, value in readings if not _is_known(value)]


def _is_known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _amount(name: str, joules: float) -> float:
    if not (math.isfinite(joules) and joules >= 0.0):
        raise ValueError(f"{name} is {joules}; it must be finite and not negative")
    return joules


def _duration(seconds: float) -> str:
    if seconds < 90.0:
        return f"{max(1.0, seconds):.0f} s"
    if seconds < 5400.0:
        return f"{seconds / 60.0:.0f} min"
    return f"{seconds / 3600.0:.1f} h"
