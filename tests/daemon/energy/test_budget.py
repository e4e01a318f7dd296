from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from dance_ondevice.daemon.config.sections import Config, Energy, Training
from dance_ondevice.daemon.energy.budget import BudgetKeeper
from dance_ondevice.daemon.energy.service import Usage
from dance_ondevice.daemon.planning import fit as round_plan
from dance_ondevice.daemon.planning.fit import FittedRound, Stored
from dance_ondevice.daemon.rounds.record import close_round
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.energy.board import read_hindrances
from dance_ondevice.policies.rounds.start import RoundPlan

CONFIG = Config(training=Training(epochs=4, batch_size=8, min_new_samples=64))
PLAN = RoundPlan(
    train=tuple(f"n{i}" for i in range(64)),
    rehearsal=tuple(f"o{i}" for i in range(64)),
    gate=("g",),
    reason="64 new and 64 earlier samples",
)
#: Half of the images stored at full scale, half at 0.5.
STORED = Stored(
    pixels={
        name: (1.0, 400.0) if int(name[1:]) % 2 else (0.5, 100.0) for name in PLAN.train + PLAN.rehearsal
    },
    new_samples={"r1": 64},
    arrived=64,
)


def keeper(store: Store, budget: float, clock: list[float] | None = None, **options: Any) -> BudgetKeeper:
    time = clock or [0.0]
    energy = Energy(budget_joules_per_day=budget, max_watts=10.0, sysfs_root="/nonexistent")
    made = BudgetKeeper(store, energy, now=lambda: time[0], monotonic=lambda: time[0], **options)
    made.load(history_lost=False)
    return made


def row(steps: int, joules: float, **changes: Any) -> dict[str, Any]:
    """A finished round: 2 J a step of 2000 pixels and 100 J beside them, unless told otherwise."""
    return {
        "id": "r1",
        "steps": steps,
        "gross_joules": joules,
        "step_pixels": 2000.0,
        "outcome": "promoted",
        "miou_before": 0.40,
        "miou_after": 0.42,
    } | changes


PAST = [row(50, 200.0), row(100, 300.0)]


def fit(budget: BudgetKeeper, past: list[dict[str, Any]], *, forced: bool = False) -> FittedRound | str:
    return round_plan.fit(CONFIG, budget, PLAN, known=STORED, macs=10**9, past=past, forced=forced)


def test_a_whole_round_is_predicted_from_past_ones(store: Store) -> None:
    fitted = fit(keeper(store, 20_000.0), PAST)
    assert isinstance(fitted, FittedRound), fitted
    assert (fitted.steps, fitted.plan, fitted.scales) == (64, PLAN, {})
    assert fitted.step_pixels == 2000.0
    assert fitted.forecast.joules == pytest.approx(100.0 + 64 * 2.0)
    assert fitted.allowance == pytest.approx(2.0 * 228.0)
    # The latest two rounds gained 0.02 each, as the first is expected to.
    assert fitted.expectations["expected_gain"] == pytest.approx(0.02)


def test_rounds_of_other_pixels_count_by_their_pixels(store: Store) -> None:
    small = [row(50, 125.0, step_pixels=500.0), row(100, 150.0, step_pixels=500.0)]
    fitted = fit(keeper(store, 20_000.0), small)
    assert isinstance(fitted, FittedRound), fitted
    assert fitted.forecast.step_joules == pytest.approx(2.0)


def test_a_small_account_gets_a_smaller_round_at_a_smaller_scale(store: Store) -> None:
    fitted = fit(keeper(store, 170.0), PAST)  # 136 J with the margin: 36 J for 40 steps or more
    assert isinstance(fitted, FittedRound), fitted
    assert 40 <= fitted.steps <= 45
    assert len(fitted.plan.train) == 64
    assert len(fitted.plan.rehearsal) == 32
    # Only images that are stored larger are made smaller, to half of their size.
    assert set(fitted.scales.values()) == {0.5}
    assert all(STORED.pixels[sample][0] == 1.0 for sample in fitted.scales)
    assert fitted.step_pixels == pytest.approx(800.0)
    assert fitted.allowance <= 170.0
    assert "cut to fit the joules" in fitted.reason


def test_an_account_too_small_says_so(store: Store) -> None:
    told = fit(keeper(store, 120.0), PAST)
    assert isinstance(told, str)
    assert "96 J are not enough for a round: the smallest, 40 steps, takes 132 J" in told
    assert "a whole day's 120 J pay for none: raise energy.budget_joules_per_day" in told
    enough = keeper(store, 170.0)
    enough.reserve("r2", 100.0)
    told = fit(enough, PAST)
    assert isinstance(told, str)
    assert "are not enough for a round" in told
    assert "raise energy" not in told, "tomorrow there are enough"


def test_learning_that_does_not_pay_waits_unless_it_is_asked_for(store: Store) -> None:
    barren = [row(50 + n, 200.0 + 2 * n, outcome="rejected") for n in range(14)]
    told = fit(keeper(store, 1000.0), barren)
    assert isinstance(told, str)
    assert "learning does not pay now" in told
    assert isinstance(fit(keeper(store, 1000.0), barren, forced=True), FittedRound)


def test_a_budget_that_is_lowered_ends_a_running_round_at_its_limit(store: Store) -> None:
    budget = keeper(store, 1000.0)
    budget.reserve("r0", 300.0)
    budget.settle("r0", gross=300.0, attributed=0.0, method="modelled")
    budget.reserve("r1", 500.0)

    def stops(per_day: float, spent: float) -> str | None:
        budget.set_limits(Energy(budget_joules_per_day=per_day))
        return budget.must_stop(spent=spent, allowance=500.0)

    assert stops(1000.0, 499.0) is None
    assert stops(800.0, 499.0) is None
    told = stops(450.0, 160.0)
    assert told == "the budget was lowered to 450 J a day: 160 J are spent of the 150 J that were allowed"
    assert stops(450.0, 140.0) is None
    assert stops(0.0, 0.0) is not None
    assert stops(1000.0, 140.0) is None


def test_time_that_nobody_measured_is_paid_at_full_load(store: Store) -> None:
    assert keeper(store, 1.0).charge(Usage(gross_joules=100.0, unmeasured_seconds=3.0)) == 130.0


def test_a_sagging_supply_forbids_a_round_and_is_read_only_now_and_then(store: Store) -> None:
    clock, asked = [0.0], []

    def sagging() -> tuple[str, ...]:
        asked.append(clock[0])
        return ("the supply's voltage is too low",)

    budget = keeper(store, 20_000.0, clock, hindrances=sagging)
    told = fit(budget, PAST)
    assert isinstance(told, str)
    assert "voltage" in told
    for step in range(40):
        clock[0] = step / 10
        assert budget.must_stop(spent=0.0, allowance=100.0) == "the supply's voltage is too low"
    assert asked == [0.0, 2.0]


def test_a_gauge_that_falls_silent_is_no_full_battery(store: Store, tmp_path: Path) -> None:
    """A glitch ends no round, a gauge that is gone does; a board without a battery is not asked for one."""
    clock, sysfs = [0.0], tmp_path / "sys"
    battery = sysfs / "class" / "power_supply" / "max17043"
    battery.mkdir(parents=True)
    (battery / "type").write_text("Battery\n")
    energy = Energy(budget_joules_per_day=20_000.0, max_watts=10.0, sysfs_root=str(sysfs))
    budget = BudgetKeeper(store, energy, now=lambda: clock[0], monotonic=lambda: clock[0])
    budget.load(history_lost=False)

    def stopped(seconds: float) -> str | None:
        clock[0] += seconds
        return budget.must_stop(spent=0.0, allowance=100.0)

    assert stopped(0) is None  # its gauge has never told anything, as of many boards
    (battery / "capacity").write_text("62\n")
    assert stopped(3) is None
    (battery / "capacity").unlink()
    assert stopped(30) is None
    assert "no longer tells its charge" in str(stopped(31))
    assert not budget.ask(10.0).allowed
    (battery / "capacity").write_text("20\n")
    assert "below its floor" in str(stopped(3))
    (battery / "present").write_text("0\n")  # unplugged: the board lives on something else
    (battery / "capacity").unlink()
    assert stopped(90) is None


def test_a_pi_tells_of_its_supply_and_its_clock(tmp_path: Path) -> None:
    assert read_hindrances(tmp_path) == ()
    chip = tmp_path / "class" / "hwmon" / "hwmon1"
    chip.mkdir(parents=True)
    (chip / "name").write_text("rpi_volt\n")
    (chip / "in0_lcrit_alarm").write_text("0\n")
    firmware = tmp_path / "devices" / "platform" / "soc" / "soc:firmware"
    firmware.mkdir(parents=True)
    (firmware / "get_throttled").write_text("50008\n")  # all of it in the past, but for the soft limit
    assert read_hindrances(tmp_path) == ()
    (chip / "in0_lcrit_alarm").write_text("1\n")
    (firmware / "get_throttled").write_text("50005\n")
    assert read_hindrances(tmp_path) == (
        "the supply's voltage is too low",
        "the firmware throttles the processor",
    )
    (firmware / "get_throttled").write_text("garbage\n")
    assert read_hindrances(tmp_path) == ("the supply's voltage is too low",)


def test_only_what_came_since_the_last_round_is_a_reason_to_try_again(store: Store, add_street: Any) -> None:
    add_street(store, 6)  # one a second from second 1,700,000,000 on
    none = RoundPlan(train=(), rehearsal=(), gate=(), reason="")

    def arrived(*rounds: tuple[float, int]) -> int:
        def read(db: Database) -> int:
            db.execute("update samples set split = 'train'")
            db.execute("delete from rounds")
            for number, (at, arrivals) in enumerate(rounds):
                row = {"id": f"r{number}", "started_at": at, "outcome": "rejected", "arrivals": arrivals}
                db["rounds"].insert(row)
            return round_plan.stored(db, none).arrived

        return store.submit(read).result()

    assert arrived() == 6
    assert arrived((1_600_000_000.0, 0), (1_700_000_003.5, 4)) == 2
    assert arrived((4e9, 0), (1_700_000_003.5, 4)) == 2, "a round of a wrong clock made all samples old"
    assert arrived((0.0, 4), (-4e9, 5)) == 1


def test_labels_that_come_late_are_a_reason_to_try_again(store: Store, add_street: Any) -> None:
    add_street(store, 6)
    none = RoundPlan(train=(), rehearsal=(), gate=(), reason="")

    def read(db: Database) -> tuple[int, int]:
        # Two samples were labelled when the round began; one was used, and one left over.
        db.execute("update samples set split = case when rowid <= 2 then 'train' end")
        db.execute("update samples set rounds_used = 1 where rowid = 1")
        db["rounds"].insert({"id": "r1", "started_at": 0.0, "arrivals": 6})
        close_round(db, "r1", {"outcome": "rejected"}, served=True)
        after = round_plan.stored(db, none).arrived
        db.execute("update samples set split = 'train'")
        return after, round_plan.stored(db, none).arrived

    assert store.submit(read).result() == (0, 4)


def test_what_labelling_spent_is_counted_for_a_day_whatever_the_calendar_says(store: Store) -> None:
    calendar, seconds = [0.0], [0.0]
    energy = Energy(budget_joules_per_day=1000.0, sysfs_root="/nonexistent")

    def started() -> BudgetKeeper:
        made = BudgetKeeper(store, energy, now=lambda: calendar[0], monotonic=lambda: seconds[0])
        made.load(history_lost=False)
        return made

    made = started()
    made.reserve("labelling-1", 200.0, labelling=True)
    made.settle("labelling-1", gross=150.0, attributed=10.0, method="modelled")
    made.reserve("r1", 300.0)
    made.settle("r1", gross=300.0, attributed=10.0, method="modelled")
    for jump in (-(10.0**8), 10.0**8):  # a calendar that is set forgets nothing and blocks nothing
        calendar[0] += jump
        assert made.labelling_spent() == 150.0
    # Neither does a new start; and what a crash left reserved for labelling is labelling's.
    made.reserve("labelling-2", 50.0, labelling=True)
    made = started()
    assert made.labelling_spent() == 200.0
    seconds[0] += 86_401.0
    assert made.labelling_spent() == 0.0
