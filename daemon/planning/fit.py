"""Sizes a round to the joules that may be spent, and decides whether it is worth them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.children.jobs import Job
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.energy.budget import BudgetKeeper, assumed_cost
from dance_ondevice.daemon.planning import anchors
from dance_ondevice.daemon.planning import job as round_job
from dance_ondevice.daemon.store.labelled import UNUSED
from dance_ondevice.policies.budget import learning_value, round_size
from dance_ondevice.policies.rounds import pace, rehearsal
from dance_ondevice.policies.rounds.start import RoundPlan

_CHUNK = 500
#: Number of latest candidates from which forgetting is measured.
_FORGETTING_ROUNDS = 5
_FULL = (1.0, 0.0)

# In the order of storing, so that a wrong clock makes no sample old and no round late. Labels come late, too:
# what is unused beyond what the last round left over is new, however long ago its frame was stored.
_ARRIVED = f"""
WITH last (arrivals, left_over) AS (
    SELECT arrivals, left_over FROM rounds WHERE outcome IS NOT NULL ORDER BY rowid DESC LIMIT 1
)
SELECT max(
    count(*) FILTER (WHERE arrival > coalesce((SELECT arrivals FROM last), 0)),
    coalesce(count(*) - (SELECT left_over FROM last), 0)
) FROM samples WHERE {UNUSED}
"""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Expected gain (mIoU) and cost (gross joules) of a round, and the cost of one of its steps."""

    gain: float | None
    joules: float
    step_joules: float


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Stored facts about the samples of a plan and of past rounds.

    Attributes:
        pixels: (stored scale, pixels as stored) of each training sample, by id.
        new_samples: Number of new samples of each past round, by the round's id.
        arrived: Number of samples to train on that came, or got their label, since the last round and are
            still unused.
    """

    pixels: Mapping[str, tuple[float, float]]
    new_samples: Mapping[str, int]
    arrived: int


@dataclass(frozen=True, kw_only=True)
class FittedRound:
    """A round that fits the budget and may start.

    Attributes:
        plan: The samples of the round.
        steps: Number of optimiser steps.
        scales: Factor by which an image is resized for training, by id; images that are not listed keep their
            size.
        step_pixels: Number of pixels in the images of an average step.
        forecast: Expected gain and cost.
        allowance: Gross joules that the round may spend.
        reason: What was cut so that the round fits, what it may spend, and why it is worth that.
    """

    plan: RoundPlan
    steps: int
    scales: Mapping[str, float]
    step_pixels: float
    forecast: Forecast
    allowance: float
    reason: str

    @property
    def expectations(self) -> dict[str, float | None]:
        """The expected values, as columns of the round's record."""
        return {
            "expected_gain": self.forecast.gain,
            "expected_joules": self.forecast.joules,
            "step_pixels": self.step_pixels,
        }


class EnergyRefusal(str):
    """Why no round starts, where that is for want of joules, or for battery or heat."""

    __slots__ = ()


def stored(db: Database, plan: RoundPlan) -> Stored:
    """Look up the stored facts that ``fit`` needs."""
    ids = [*plan.train, *plan.rehearsal]
    pixels: dict[str, tuple[float, float]] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        marks = ",".join("?" * len(chunk))
        rows = db.query(
            f"select id, scale, width * height as pixels from samples where id in ({marks})", chunk
        )
        pixels.update({row["id"]: (row["scale"] or 1.0, float(row["pixels"])) for row in rows})
    counts = db.query("select id as round_id, coalesce(new_samples, 0) as n from rounds")
    return Stored(
        pixels=pixels,
        new_samples={row["round_id"]: row["n"] for row in counts},
        arrived=db.execute(_ARRIVED).fetchone()[0],
    )


def rehearsal_share(db: Database, base: float) -> float:
    """Share of a round that is rehearsed, computed from what the latest candidates forgot of old scenes."""
    rows = db.execute(
        "SELECT versions.card FROM rounds JOIN versions ON versions.version = rounds.candidate "
        f"WHERE rounds.outcome IS NOT NULL ORDER BY rounds.rowid DESC LIMIT {_FORGETTING_ROUNDS}"
    ).fetchall()
    return rehearsal.rehearsal_share(base, [_old_scenes(row[0]) for row in reversed(rows)])


def _old_scenes(card: str | None) -> list[float]:
    """Changes in mIoU of the groups of held-out samples other than the one that gained most."""
    try:
        groups = json.loads(card or "{}")["gate"]["table"]["groups"]
        gains = sorted(float(group["gain"]) for group in groups)
    except (ValueError, KeyError, TypeError):
        return []  # the card is of a base model, or its round compared no groups
    return gains[:-1]


def fit(
    config: Config,
    budget: BudgetKeeper,
    plan: RoundPlan,
    *,
    known: Stored,
    macs: int,
    past: Sequence[Mapping[str, Any]],
    forced: bool,
    rehearsal_share: float | None = None,
    meter: str = "",
) -> FittedRound | str:
    """Size a round to the available joules and decide whether it pays; returns a text when no round starts.

    Args:
        config: The whole configuration.
        budget: The energy account.
        plan: The samples of the whole round.
        known: The result of ``stored``.
        macs: Multiply-accumulates of the live model per image.
        past: Rows of finished rounds, oldest first.
        forced: Whether the user asked for the round.
        rehearsal_share: Share of rehearsed samples in this round; None takes the configured one.
        meter: Name of the energy meter in use; rounds that another meter measured do not predict this one.
    """
    training = config.training
    share = training.rehearsal_share if rehearsal_share is None else rehearsal_share
    try:
        plan = rehearsal.mix_anchors(
            plan,
            anchors.names(training.anchors) if share > 0.0 else [],
            anchor_share=training.anchor_share,
            rehearsal_share=share,
            max_samples=training.max_samples,
            seed=training.seed + len(past),
        )
    except (anchors.AnchorError, OSError) as error:
        return f"no round starts while its anchors cannot be read: {error}"
    by_scale: dict[float, float] = {}
    for scale, pixels in known.pixels.values():
        by_scale[scale] = by_scale.get(scale, 0.0) + pixels
    full_pixels = training.batch_size * sum(by_scale.values()) / max(1, len(known.pixels))
    cost = round_size.fit_cost(
        costs(past, full_pixels, meter),
        assumed_cost(config.energy, training.batch_size, macs),
    )
    wanted = round_size.Wanted(
        new=len(plan.train),
        rehearsal=len(plan.rehearsal),
        epochs=training.epochs,
        batch_size=training.batch_size,
        min_steps=round_job.MIN_STEPS,
        pixels=by_scale,
        scales=tuple(config.data_slimming.scales) if config.data_slimming.enabled else (1.0,),
    )
    size = round_size.fit_round(cost, budget.spendable(), wanted)
    if isinstance(size, str):
        per_day = budget.rules.joules_per_day
        if per_day > 0 and isinstance(round_size.fit_round(cost, per_day / budget.rules.margin, wanted), str):
            size += f"; a whole day's {per_day:,.0f} J pay for none: raise energy.budget_joules_per_day"
        # The account reports how much is left and how long more takes; battery and heat are reported
        # separately.
        allowance = budget.ask(cost.round(round_job.MIN_STEPS))
        return EnergyRefusal(size if allowance.allowed else f"{size}; {allowance.reason}")
    rules = learning_value.ValueRules()
    expected = learning_value.expect(
        rules, past_rounds(past, known.new_samples), new_samples=size.new, predicted_joules=size.joules
    )
    verdict = learning_value.train_or_wait(
        rules,
        expected,
        joules_per_day=config.energy.budget_joules_per_day,
        new_samples=known.arrived,
        min_new_samples=training.min_new_samples,
        forced=forced,
    )
    if not verdict.train:
        return verdict.reason
    allowance = budget.ask(size.joules)
    if not allowance.allowed:
        return EnergyRefusal(allowance.reason)
    cut = dataclasses.replace(
        plan, train=_spread(plan.train, size.new), rehearsal=_spread(plan.rehearsal, size.rehearsal)
    )
    pixel_share = round_size.pixel_share(by_scale, size.max_scale)
    return FittedRound(
        plan=cut,
        steps=size.steps,
        # Anchors are not in the store; they are at full scale.
        scales={
            sample: size.max_scale / known.pixels.get(sample, _FULL)[0]
            for sample in (*cut.train, *cut.rehearsal)
            if known.pixels.get(sample, _FULL)[0] > size.max_scale
        },
        step_pixels=full_pixels * pixel_share,
        forecast=Forecast(gain=expected.gain, joules=size.joules, step_joules=size.step_joules),
        allowance=allowance.joules,
        reason="; ".join(filter(None, (plan.reason, size.reason, allowance.reason, verdict.reason))),
    )


def costs(
    rows: Sequence[Mapping[str, Any]], full_pixels: float, meter: str = ""
) -> list[tuple[float, float]]:
    """(full-size steps, gross joules) of past rounds, to predict the next round's cost from.

    Args:
        rows: Rows of finished rounds, oldest first.
        full_pixels: Number of pixels in the images of a full-size step.
        meter: Only rounds of this energy meter, and rounds whose meter is unknown; empty takes all.
    """
    return [
        (row["steps"] * _relative(row.get("step_pixels"), full_pixels), row["gross_joules"])
        for row in rows
        if row["steps"] and row["gross_joules"] and (not meter or row.get("meter") in (None, "", meter))
    ]


def past_rounds(
    rows: Sequence[Mapping[str, Any]], new_samples: Mapping[str, int]
) -> list[learning_value.PastRound]:
    """Gain and number of new samples of finished rounds, oldest first, for the value of learning."""
    return [
        learning_value.PastRound(gain=gain(row), new_samples=new_samples.get(row["id"], 0)) for row in rows
    ]


def gain(row: Mapping[str, Any]) -> float:
    """The rise of the live model's mIoU on held-out samples by a round; 0 when it promoted nothing."""
    if row["outcome"] != "promoted" or row["miou_after"] is None or row["miou_before"] is None:
        return 0.0
    return float(row["miou_after"] - row["miou_before"])


def resumed(row: Mapping[str, Any], steps: int) -> Forecast:
    """The forecast of an interrupted round, from its row and the steps of its job."""
    joules = row["expected_joules"] or 0.0
    return Forecast(gain=row["expected_gain"], joules=joules, step_joules=joules / max(1, steps))


def judging_joules(forecast: Forecast, job: Job) -> float:
    """Joules that a round needs when it has trained, to judge what it came to."""
    return pace.evaluation_joules(
        forecast.step_joules,
        gate=len(job.gate),
        batch_size=job.batch_size,
        candidates=job.most_candidates,
    )


def _relative(step_pixels: float | None, full_pixels: float) -> float:
    return step_pixels / full_pixels if step_pixels and full_pixels else 1.0


def _spread(items: tuple[str, ...], count: int) -> tuple[str, ...]:
    """``count`` of the items, evenly spaced."""
    return tuple(items[index * len(items) // count] for index in range(count)) if count else ()
