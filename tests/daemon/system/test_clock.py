"""The wall clock is set, either way and by any amount: what is due stays due when it would have been."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from dance_ondevice.daemon.system import schedule
from dance_ondevice.daemon.system.clock import ClockWatch, ZoneWatch, since_boot


@contextmanager
def local_zone(zone: str) -> Iterator[None]:
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TZ", zone)
            time.tzset()
            yield
    finally:
        time.tzset()


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
    trigger = schedule.DailyOpening(1, 30)
    with local_zone("UTC0"):
        due = trigger.get_next_fire_time(None, BOOT)
        assert (due.hour, due.minute) == (1, 30)
        now = BOOT + timedelta(days=20_000, hours=12)
        assert trigger.get_next_fire_time(due, now) == now + timedelta(hours=13.5)
        assert trigger.get_next_fire_time(now, now + timedelta(hours=13.5)) == now + timedelta(hours=37.5)


@pytest.mark.parametrize(
    ("zone", "opens"),
    [
        ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-07-01 20:00:00+00:00"),
        ("UTC0", "2026-07-01 22:00:00+00:00"),
        ("<+0530>-5:30", "2026-07-01 16:30:00+00:00"),
        ("Europe/Lisbon", "2026-07-01 21:00:00+00:00"),
    ],
)
def test_a_time_zone_without_a_name_is_no_reason_not_to_start(zone: str, opens: str) -> None:
    """As small systems set TZ, and as a container has it whose /etc/localtime is a file."""
    with local_zone(zone):
        clockwork = schedule.build(600.0, "22:00-05:00", print)
        trigger = clockwork.get_jobs()[1].trigger
        noon = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)
        assert str(trigger.get_next_fire_time(None, noon)) == opens


@pytest.mark.parametrize(
    ("zone", "longest"),
    [
        ("CET-1CEST,M3.5.0,M10.5.0/3", 25.0),
        ("EST5EDT,M3.2.0,M11.1.0", 25.0),
        ("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", 24.5),
        ("<-01>1<+00>,M3.5.0/0,M10.5.0/1", 25.0),  # the change is at midnight
    ],
)
@pytest.mark.parametrize("opens", [(0, 0), (0, 30), (1, 30), (2, 0), (2, 30), (3, 0), (23, 30)])
def test_a_window_opens_every_day_of_a_year_once(zone: str, longest: float, opens: tuple[int, int]) -> None:
    """No opening is in the past, which a scheduler would run again and again in the hour that repeats."""
    with local_zone(zone):
        trigger = schedule.DailyOpening(*opens)
        now = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
        days = set()
        while now < datetime(2027, 1, 1, 12, tzinfo=timezone.utc):
            opening = trigger.get_next_fire_time(now, now)
            assert timedelta(0) < opening - now <= timedelta(hours=longest)
            just_after = opening + timedelta(microseconds=7)
            assert trigger.get_next_fire_time(opening, just_after) - opening >= timedelta(hours=22)
            local = opening.astimezone()
            days.add(local.date())
            left_out = timedelta(hours=local.hour - opens[0], minutes=local.minute - opens[1])
            assert left_out == timedelta(0) or (local.month in {3, 10} and left_out <= timedelta(hours=1))
            assert left_out >= timedelta(0)
            now = opening
        assert len(days) == (max(days) - min(days)).days + 1


def test_another_time_zone_is_noticed_once() -> None:
    """As after ``timedatectl set-timezone``: the C library has to be asked to look again."""
    with local_zone("UTC0"):
        watch = ZoneWatch()
        assert watch.moved() == 0.0
        os.environ["TZ"] = "<+0530>-5:30"
        assert time.localtime(0).tm_hour == 0, "nobody has looked yet"
        assert (watch.moved(), time.localtime(0).tm_hour) == (5.5 * 3600, 5)
        assert watch.moved() == 0.0


def test_an_interval_goes_on_over_restarts(tmp_path: Path) -> None:
    """A board that is off at night asks once a day; it never did, since no interval came to its end."""
    wall, asks = [1e9], 0
    for _ in range(10):
        file = schedule.AskedFile(tmp_path / "asked", lambda: wall[0])
        trigger = schedule.MonotonicInterval(86_400.0, lambda: 5.0, elapsed=file.elapsed())
        due = (trigger.get_next_fire_time(None, BOOT) - BOOT).total_seconds()
        assert due >= 60.0, "the parts have had time to start"
        if due < 8 * 3600.0:
            asks += 1
            wall[0] += due
            file.note()
            wall[0] -= due
        wall[0] += 86_400.0
    assert asks == 9
    wall[0] = 5.0  # a clock that was ahead: what is left is at most an interval
    assert schedule.AskedFile(tmp_path / "asked", lambda: wall[0]).elapsed() == 0.0
    wall[0] += 3600.0
    assert schedule.AskedFile(tmp_path / "asked", lambda: wall[0]).elapsed() == 3600.0


def test_each_request_of_the_interval_is_recorded(tmp_path: Path) -> None:
    asked: list[str] = []
    file = schedule.AskedFile(tmp_path / "asked", lambda: 1e9)
    clockwork = schedule.build(600.0, "01:30-05:00", asked.append, asked=file)
    for name in ("window", "interval"):
        (tmp_path / "asked").unlink()
        job = clockwork.get_job(name)
        job.func(*job.args)
        assert (tmp_path / "asked").exists() is (name == "interval")
        (tmp_path / "asked").touch()
    assert asked == ["window", "interval"]


def test_an_interval_that_ended_while_the_board_was_suspended_ends_at_once_and_once() -> None:
    elapsed = [0.0]
    trigger = schedule.MonotonicInterval(86_400.0, lambda: elapsed[0])
    now = BOOT + timedelta(days=3)
    elapsed[0] = 3 * 86_400.0
    assert trigger.get_next_fire_time(None, now) == now
    assert trigger.get_next_fire_time(now, now) == now + timedelta(days=1)
    assert since_boot() > time.monotonic() - 1


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
