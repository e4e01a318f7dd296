"""The wall clock is set, either way and by any amount: what is due stays due when it would have been."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest

from dance_ondevice.daemon.system import schedule
from dance_ondevice.daemon.system.clock import ClockWatch

YEARS_56 = 56 * 365.25 * 86_400.0
BOOT = datetime(1970, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize("by", [3600.0, -3600.0, -86_400.0, YEARS_56, -YEARS_56, 1.5])
def test_a_clock_that_is_set_is_noticed_once(by: float) -> None:
    wall, mono = [1e9], [50.0]
    watch = ClockWatch(lambda: wall[0], lambda: mono[0])
    for _ in range(3):
        wall[0] += 60.001  # NTP slews it meanwhile
        mono[0] += 60.0
        assert watch.moved() == 0.0
    wall[0] += by + 1.0
    mono[0] += 1.0
    assert watch.moved() == pytest.approx(by, abs=1e-3)
    assert watch.moved() == 0.0


@pytest.mark.parametrize("by", [-3600.0, -YEARS_56, 3600.0, YEARS_56])
def test_the_interval_ends_on_the_monotonic_clock(by: float) -> None:
    mono = [1000.0]
    trigger = schedule.MonotonicInterval(60.0, lambda: mono[0])
    now = datetime(2026, 6, 1, tzinfo=timezone.utc)
    assert trigger.get_next_fire_time(None, now) == now + timedelta(seconds=60)
    mono[0] += 15.0
    now += timedelta(seconds=15 + by)
    assert trigger.get_next_fire_time(None, now) == now + timedelta(seconds=45)


def test_a_leap_from_1970_is_one_tick_and_not_29_million() -> None:
    mono = [0.0]
    trigger = schedule.MonotonicInterval(60.0, lambda: mono[0])
    due = trigger.get_next_fire_time(None, BOOT)
    mono[0] = 61.0
    now = BOOT + timedelta(seconds=YEARS_56)
    fired = []
    while due <= now:  # as the scheduler collects what is due
        fired.append(due)
        due = trigger.get_next_fire_time(due, now)
        assert len(fired) < 5
    assert len(fired) == 1
    assert due - now == timedelta(seconds=59)
    mono[0] += 59.0 + 10 * 60.0  # a suspended board: one tick, and the next a whole interval later
    assert trigger.get_next_fire_time(due, now) == now + timedelta(seconds=60)


def test_a_slewed_clock_that_fires_early_fires_once() -> None:
    mono = [0.0]
    trigger = schedule.MonotonicInterval(1800.0, lambda: mono[0])
    due = trigger.get_next_fire_time(None, BOOT)
    mono[0] = 1799.2
    assert trigger.get_next_fire_time(due, due) == due + timedelta(seconds=1800.8)


def test_the_opening_of_a_window_is_not_fired_for_each_day_that_was_leapt_over() -> None:
    trigger = schedule.DailyOpening(hour=1, minute=30, timezone="UTC")
    due = trigger.get_next_fire_time(None, BOOT)
    assert (due.hour, due.minute) == (1, 30)
    now = BOOT + timedelta(days=20_000, hours=12)
    assert trigger.get_next_fire_time(due, now) == now + timedelta(hours=13.5)
    assert trigger.get_next_fire_time(now, now + timedelta(hours=13.5)) == now + timedelta(hours=37.5)


@pytest.mark.parametrize(
    ("zone", "opens"),
    [
        ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-07-01 22:00:00+02:00"),
        ("UTC0", "2026-07-01 22:00:00+00:00"),
        ("<+0530>-5:30", "2026-07-01 22:00:00+05:30"),
        ("Europe/Lisbon", "2026-07-01 22:00:00+01:00"),
    ],
)
def test_a_time_zone_without_a_name_is_no_reason_not_to_start(
    monkeypatch: pytest.MonkeyPatch, zone: str, opens: str
) -> None:
    """As small systems set TZ, and as a container has it whose /etc/localtime is a file."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        clockwork = schedule.build(600.0, "22:00-05:00", print)
        trigger = clockwork.get_jobs()[1].trigger
        noon = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)
        assert str(trigger.get_next_fire_time(None, noon)) == opens
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("by", [-YEARS_56, YEARS_56])
def test_a_running_schedule_follows_the_clock(by: float) -> None:
    asked: list[str] = []
    mono = [0.0]
    clockwork = schedule.build(600.0, "01:30-05:00", asked.append, monotonic=lambda: mono[0])
    clockwork.start(paused=True)
    try:
        mono[0] = 120.0
        for job in clockwork.get_jobs():  # as they stand after the clock was set by so much
            job.modify(next_run_time=job.next_run_time - timedelta(seconds=by))
        before = datetime.now(timezone.utc)
        schedule.follow(clockwork, asked.append)
        left = clockwork.get_job("interval").next_run_time - before
        assert timedelta(seconds=479) < left < timedelta(seconds=540)
        assert timedelta(0) < clockwork.get_job("window").next_run_time - before <= timedelta(days=1, hours=1)
        assert asked == ["window"], "the opening may have been leapt over"
    finally:
        clockwork.shutdown()
