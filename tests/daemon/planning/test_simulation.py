from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from dance_ondevice.daemon.commands.simulate import picture
from dance_ondevice.daemon.config.sections import Config, Energy, Training
from dance_ondevice.daemon.planning.simulation import (
    DAY,
    NothingStoredError,
    Record,
    read_record,
    simulate,
    summary,
)
from dance_ondevice.daemon.store.schema import migrate
from dance_ondevice.policies.budget.round_size import Cost

#: A sample a minute from eight to ten in the morning.
MORNING = Record(
    arrivals=tuple(8 * 3600.0 + 60.0 * i for i in range(120)),
    period=DAY,
    cost=Cost(200.0, 10.0),
    noise=(0.8, 1.0, 1.2),
    gains=((0.02, 64), (0.0, 64), (0.01, 64)),
    watts=10.0,
)


def config(budget: float, **training: Any) -> Config:
    return Config(energy=Energy(budget_joules_per_day=budget), training=Training(**training))


@settings(max_examples=15)
@given(st.floats(0, 50_000), st.integers(0, 99), st.booleans())
def test_no_simulated_day_is_over_its_budget(budget: float, seed: int, weigh: bool) -> None:
    days = simulate(MORNING, config(budget, interval="20m"), days=20, seed=seed, weigh_value=weigh)
    assert [day.day for day in days] == list(range(1, 21))
    assert all(day.joules <= budget + 1e-6 for day in days)
    assert all(day.arrived == 120 for day in days)
    assert days == simulate(MORNING, config(budget, interval="20m"), days=20, seed=seed, weigh_value=weigh)


def test_a_larger_budget_lets_more_rounds_run_and_a_small_one_says_why_not() -> None:
    few, many = (summary(simulate(MORNING, config(b), days=30), b) for b in (1000.0, 40_000.0))
    assert few["rounds"] < many["rounds"]
    assert few["refused"]["budget"] > 0
    assert many["refused"] == {"budget": 0, "value": 0, "window": 0}
    assert many["arrived"] == 30 * 120
    none = summary(simulate(MORNING, config(0.0), days=3), 0.0)
    assert (none["rounds"], none["joules"]) == (0, 0.0)


def test_outside_the_window_nothing_runs() -> None:
    shut = summary(simulate(MORNING, config(40_000.0, window="07:00-07:30"), days=1), 40_000.0)
    assert shut["rounds"] == 0
    assert shut["refused"]["window"] > 0
    assert summary(simulate(MORNING, config(40_000.0, window="09:00-12:00"), days=1), 40_000.0)["rounds"] > 0


@pytest.mark.parametrize("interval", ["1d", "5d", "7h"])
def test_a_round_is_asked_for_when_the_window_opens_however_long_the_interval(interval: str) -> None:
    nightly = config(40_000.0, interval=interval, window="01:05-01:10")
    days = simulate(MORNING, nightly, days=7, weigh_value=False)
    assert [day.rounds for day in days] == [0, 1, 1, 1, 1, 1, 1]


def test_learning_that_never_helps_is_given_up_unless_it_is_never_asked() -> None:
    barren = Record(
        arrivals=MORNING.arrivals, period=DAY, cost=MORNING.cost, gains=((0.0, 64),) * 8, watts=10.0
    )
    asked = summary(simulate(barren, config(20_000.0), days=30), 20_000.0)
    unasked = summary(simulate(barren, config(20_000.0), days=30, weigh_value=False), 20_000.0)
    assert asked["refused"]["value"] > 0
    assert asked["rounds"] * 5 < unasked["rounds"]
    assert asked["rounds"] > 0, "a stream that goes on is tried again"


@pytest.fixture
def db() -> Iterator[Database]:
    with Database(memory=True) as made:
        migrate(made)
        yield made


def test_the_record_is_read_from_the_state_folder(db: Database) -> None:
    with pytest.raises(NothingStoredError, match="no labelled sample"):
        read_record(db, config(1.0), macs=10**8)
    midnight = 20_000 * DAY
    fill(db, midnight)
    record = read_record(db, config(1.0), macs=10**8)
    # The held-out sample is none to train on.
    assert record.arrivals == (3600.0, DAY + 7200.0)
    assert record.period == 2 * DAY
    assert record.pixels == {1.0: 400.0, 0.5: 100.0}
    assert "cost is assumed" in record.assumptions[0]
    for number, (steps, joules) in enumerate(((50, 200.0), (100, 300.0))):
        db["rounds"].insert(
            {
                "id": f"r{number}",
                "started_at": number,
                "outcome": "promoted",
                "miou_before": 0.4,
                "miou_after": 0.43,
                "steps": steps,
                "gross_joules": joules,
                "seconds": joules / 5.0,
            }
        )
    record = read_record(db, config(1.0), macs=10**8)
    assert (record.cost.overhead_joules, record.cost.step_joules) == pytest.approx((100.0, 2.0))
    assert record.watts == 5.0
    assert [gain for gain, _ in record.gains] == pytest.approx([0.03, 0.03])
    assert record.assumptions == ()


def fill(db: Database, midnight: float) -> None:
    """Two labelled samples to train on, of two scales and days, and one that is held out."""
    for number, (at, scale, width, split) in enumerate(
        ((3600.0, 1.0, 20, None), (DAY + 7200.0, 0.5, 5, "train"), (9000.0, 1.0, 20, "gate"))
    ):
        db["samples"].insert(
            {
                "id": f"s{number}",
                "camera": "front",
                "seq": number,
                "captured_at": midnight + at,
                "received_at": midnight + at,
                "path": f"{number}.png",
                "format": "png",
                "width": width,
                "height": 20,
                "native_width": 20,
                "native_height": 20,
                "bytes": 1,
                "digest": "d",
                "received_digest": "d",
                "score": 0.5,
                "quantile": 0.5,
                "scale": scale,
                "weight": 1.0,
                "reason": "",
                "label_path": "l.png",
                "split": split,
            }
        )


def test_the_picture_has_a_bar_for_each_day_and_the_budget() -> None:
    days = simulate(MORNING, config(5000.0), days=40)
    root = ElementTree.fromstring(picture(days, 5000.0))
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text or "" for title in root.iter(f"{space}title")]
    assert len(titles) == 41
    assert titles[1].startswith(f"day 1: {days[0].joules:,.0f} J, {days[0].rounds} rounds")
    assert "5,000 J" in [text.text for text in root.iter(f"{space}text")]
