"""Replays the stored stream and the board's costs under another budget or policy.

The stored stream is repeated; each round's cost and gain are drawn from the rounds on record. Battery,
temperature and supply are assumed to be fine.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.energy.budget import assumed_cost
from dance_ondevice.daemon.planning import fit as round_plan
from dance_ondevice.daemon.planning.job import MIN_STEPS
from dance_ondevice.policies.budget import energy_budget, learning_value, round_size
from dance_ondevice.policies.rounds import start as round_policy

DAY = 86_400.0
#: Power, in watts, that is assumed while a round runs where no round on record has measured it.
_ASSUMED_WATTS = 10.0
#: Multiply-accumulates per image that are assumed where there is no model.
_ASSUMED_MACS = 1_000_000_000
#: A longer silence of all cameras than this, in seconds, is assumed to be a clock that was set.
_LONGEST_GAP = 30 * DAY
#: Number of recorded rounds that gains and costs are drawn from.
_RECORD = 50

#: Number of latest rounds from which the expected gain is computed; older ones have no weight.
_LOOK_BACK = 20

#: Why a round that had enough to learn from did not start.
REFUSALS = ("budget", "value", "window")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the state folder records of the stream and the board.

    Attributes:
        arrivals: Times at which samples to train on arrived, in seconds since the local midnight before the
            first, in order.
        period: Seconds after which the stream is repeated; whole days.
        cost: The cost model of a round.
        noise: Gross joules of each recorded round divided by what ``cost`` predicts.
        gains: (mIoU gained, new samples) of each recorded round, oldest first; empty if none is recorded.
        watts: Gross power while a round runs.
        pixels: Total pixels of stored labelled samples, by stored scale.
        assumptions: Assumptions that replace missing records, in words.
    """

    arrivals: tuple[float, ...]
    period: float
    cost: round_size.Cost
    noise: tuple[float, ...] = (1.0,)
    gains: tuple[tuple[float, int], ...] = ()
    watts: float = _ASSUMED_WATTS
    pixels: Mapping[float, float] = dataclasses.field(default_factory=dict)
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Day:
    """One simulated day.

    Attributes:
        day: Number of the day, from 1.
        arrived: Number of new samples to train on.
        rounds: Number of rounds that ran.
        promoted: Number of those rounds that had a gain.
        gain: Sum of their mIoU gains, each drawn independently: an upper bound.
        joules: Gross joules that they took.
        refused: Number of times that a round with enough new samples did not start, by reason.
        balance: Joules on the account at the end of the day.
    """

    day: int
    arrived: int
    rounds: int
    promoted: int
    gain: float
    joules: float
    refused: Mapping[str, int]
    balance: float


class NothingStoredError(RuntimeError):
    """No labelled sample is stored, so there is no stream to replay."""


def read_record(db: Database, config: Config, *, macs: int, utc_offset: float = 0.0) -> Record:
    """Read the stream and the costs from a state folder's database.

    Args:
        db: A reader's connection.
        config: The configuration, for values that are not on record.
        macs: Multiply-accumulates of the live model per image; 0 without a model.
        utc_offset: Seconds by which local time is ahead of UTC, for the hours of the window.

    Raises:
        NothingStoredError: No labelled sample is stored.
    """
    rows = list(
        db.query(
            "select received_at, scale, width * height as pixels from samples "
            "where label_path is not null and (split is null or split = 'train') order by arrival"
        )
    )
    if not rows:
        raise NothingStoredError(
            "no labelled sample to train on is stored, and rounds learn from nothing else: there is no "
            "stream to replay. Send frames with labels, or label some: "
            "dance-ondevice samples export --for-labelling 20 --out DIR"
        )
    times = _in_order([row["received_at"] + utc_offset for row in rows])
    midnight = math.floor(times[0] / DAY) * DAY
    pixels: dict[float, float] = {}
    for row in rows:
        scale = row["scale"] or 1.0
        pixels[scale] = pixels.get(scale, 0.0) + row["pixels"]
    batch = config.training.batch_size
    full_pixels = batch * sum(pixels.values()) / len(rows)
    past = list(
        db.query("select * from rounds where outcome is not null order by rowid desc limit ?", [_RECORD])
    )[::-1]
    counts = db.query("select id as round_id, coalesce(new_samples, 0) as n from rounds")
    learnt = round_plan.past_rounds(past, {row["round_id"]: row["n"] for row in counts})
    costs = round_plan.costs(past, full_pixels)
    cost = round_size.fit_cost(costs, assumed_cost(config.energy, batch, macs or _ASSUMED_MACS))
    powers = [r["gross_joules"] / r["seconds"] for r in past if r["gross_joules"] and r["seconds"]]
    assumptions = []
    if not costs:
        basis = "the model's MACs" if macs else f"{_ASSUMED_MACS / 1e9:g} G MACs an image (there is no model)"
        assumptions.append(f"no round is on record: its cost is assumed from {basis} and full-load watts")
    if not learnt:
        assumptions.append("no round is on record: each is assumed to gain what a first one is expected to")
    return Record(
        arrivals=tuple(time - midnight for time in times),
        period=max(1, math.ceil((times[-1] - midnight + 1e-6) / DAY)) * DAY,
        cost=cost,
        noise=tuple(joules / cost.round(steps) for steps, joules in costs) or (1.0,),
        gains=tuple((each.gain, each.new_samples) for each in learnt),
        watts=median(powers) if powers else _ASSUMED_WATTS,
        pixels=pixels,
        assumptions=tuple(assumptions),
    )


def _in_order(times: Sequence[float]) -> list[float]:
    """Moments of arrival without the jumps of a clock that was set; the time of day is kept.

    Args:
        times: Seconds since the epoch, in the order of arrival.
    """
    found: list[float] = []
    shift = 0.0
    for time in times:
        last = found[-1] if found else time
        if not 0.0 <= time + shift - last <= _LONGEST_GAP:
            shift += math.ceil((last - time - shift) / DAY) * DAY
        found.append(time + shift)
    return found


def simulate(
    record: Record, config: Config, *, days: int, seed: int = 0, weigh_value: bool = True
) -> list[Day]:
    """Simulate a number of days; the same arguments give the same days.

    Args:
        record: The record of the stream and the board.
        config: The configuration to try: the budget, the hours and everything else that decides.
        days: Number of days to simulate.
        seed: Seed of the random costs and gains.
        weigh_value: Whether the expected gain decides between training and waiting; otherwise every round
            runs for which there are enough joules.
    """
    return [*_Replay(record, config, seed=seed, weigh_value=weigh_value).days(days)]


class _Replay:
    """The state of one simulation."""

    def __init__(self, record: Record, config: Config, *, seed: int, weigh_value: bool) -> None:
        self._record, self._config, self._weigh_value = record, config, weigh_value
        self._draw = random.Random(seed)
        self._budget = energy_budget.BudgetRules(joules_per_day=config.energy.budget_joules_per_day)
        self._value = learning_value.ValueRules()
        self._account = energy_budget.initial_account(self._budget, 0.0)
        self._past = [learning_value.PastRound(gain=g, new_samples=n) for g, n in record.gains]
        self._taken = self._trained = self._seen = 0
        self._interval = parse_duration(config.training.interval)
        self._longest = parse_duration(config.training.max_round_duration)

    def days(self, count: int) -> list[Day]:
        """Simulate ``count`` days, beginning at local midnight."""
        done: list[Day] = []
        now = self._next_request(0.0)
        for number in range(1, count + 1):
            refused = dict.fromkeys(REFUSALS, 0)
            joules, gains = 0.0, []
            while now < number * DAY:
                result, after = self._tick(now), now
                if isinstance(result, str):
                    refused[result] += 1
                elif result is not None:
                    spent, gain, seconds = result
                    joules += spent
                    gains.append(gain)
                    after += seconds  # requests that arrive while a round runs are dropped
                now = self._next_request(after)
            account = energy_budget.refill(self._budget, self._account, number * DAY)
            done.append(
                Day(
                    day=number,
                    arrived=self._arrived(number * DAY) - self._arrived((number - 1) * DAY),
                    rounds=len(gains),
                    promoted=sum(gain > 0 for gain in gains),
                    gain=sum(gains),
                    joules=joules,
                    refused=refused,
                    balance=account.balance_joules,
                )
            )
        return done

    def _next_request(self, now: float) -> float:
        """The first request after a moment: at the end of an interval, or at the opening of the window."""
        due = (now // self._interval + 1) * self._interval
        if due <= now:  # by rounding
            due += self._interval
        hours = round_policy.parse_window(self._config.training.window)
        if hours is None:
            return due
        opening = now // DAY * DAY + hours[0] * 60.0
        return min(due, opening if opening > now else opening + DAY)

    def _tick(self, now: float) -> tuple[float, float, float] | str | None:
        """One request: (joules, gain, seconds) of its round, why none ran, or None without samples."""
        training = self._config.training
        waiting = self._arrived(now) - self._taken
        if waiting < training.min_new_samples:
            return None
        if not round_policy.in_window(training.window, int(now % DAY // 60)):
            return "window"
        self._account = energy_budget.refill(self._budget, self._account, now)
        left = energy_budget.day_left(self._budget, self._account)
        reach = min(self._account.balance_joules, left) / self._budget.margin
        size = round_size.fit_round(self._record.cost, reach, self._wanted(waiting))
        if isinstance(size, str):
            return "budget"
        expected = learning_value.expect(
            self._value, self._past[-_LOOK_BACK:], new_samples=size.new, predicted_joules=size.joules
        )
        verdict = learning_value.train_or_wait(
            self._value,
            expected,
            joules_per_day=self._budget.joules_per_day,
            new_samples=self._arrived(now) - self._seen,
            min_new_samples=training.min_new_samples,
            forced=not self._weigh_value,
        )
        if not verdict.train:
            return "value"
        status = energy_budget.EnergyStatus(
            balance_joules=self._account.balance_joules, predicted_joules=size.joules, day_left_joules=left
        )
        allowance = energy_budget.may_start(self._budget, status)
        if not allowance.allowed:
            return "budget"
        self._seen = self._arrived(now)
        return self._round(size, allowance.joules)

    def _round(self, size: round_size.RoundSize, allowance: float) -> tuple[float, float, float]:
        """Run a round of a size; one that would cost more than its allowance is stopped and gains nothing."""
        cost = size.joules * self._draw.choice(self._record.noise)
        gain = self._gain()
        seconds = cost / self._record.watts
        stopped = cost > allowance or seconds > self._longest
        if stopped:
            cost = min(cost, allowance, self._longest * self._record.watts)
            gain, seconds = 0.0, cost / self._record.watts
        else:
            self._taken += size.new
            self._trained += size.new
        self._past.append(learning_value.PastRound(gain=gain, new_samples=size.new))
        account = energy_budget.reserve(self._account, allowance)
        account = energy_budget.refill(self._budget, account, account.updated_at + seconds)
        self._account = energy_budget.settle(account, allowance, cost)
        return cost, gain, seconds

    def _gain(self) -> float:
        if not self._record.gains:
            return self._value.prior_gain
        gain, _ = self._draw.choice(self._record.gains)
        return max(0.0, gain)

    def _wanted(self, waiting: int) -> round_size.Wanted:
        training = self._config.training
        slimming = self._config.data_slimming
        share = training.rehearsal_share
        new = min(waiting, training.max_samples - min(self._trained, int(share * training.max_samples)))
        rehearsal = min(self._trained, int(new * share / (1 - share) + 1e-9), training.max_samples - new)
        return round_size.Wanted(
            new=max(1, new),
            rehearsal=rehearsal,
            epochs=training.epochs,
            batch_size=training.batch_size,
            min_steps=MIN_STEPS,
            pixels=self._record.pixels,
            scales=tuple(slimming.scales) if slimming.enabled else (1.0,),
        )

    def _arrived(self, until: float) -> int:
        """Number of samples that came before a moment, over all repetitions of the stream."""
        whole, part = divmod(until, self._record.period)
        return int(whole) * len(self._record.arrivals) + bisect.bisect_left(self._record.arrivals, part)


def summary(days: Sequence[Day], budget_joules: float) -> dict[str, Any]:
    """Totals of a simulation, for its last line and for programs that read it."""
    joules = [day.joules for day in days]
    return {
        "days": len(days),
        "budget_joules_per_day": budget_joules,
        "arrived": sum(day.arrived for day in days),
        "rounds": sum(day.rounds for day in days),
        "promoted": sum(day.promoted for day in days),
        "joules": sum(joules),
        "joules_per_day": mean(joules),
        "most_joules_on_a_day": max(joules),
        "refused": {reason: sum(day.refused[reason] for day in days) for reason in REFUSALS},
    }
