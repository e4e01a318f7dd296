"""The schedule: APScheduler jobs that only post requests to the rounds thread.

APScheduler keeps the next run of a job as a moment of the wall clock. That clock may be set by any amount, so
the moments are computed from the monotonic clock, and again with ``follow`` whenever the wall clock was set.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from datetime import time as wall_time
from pathlib import Path

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from dance_ondevice.daemon.system.clock import since_boot

Monotonic = Callable[[], float]

#: Seconds from the start of the service to a request that was due before: its parts are then at work.
_SETTLED_SECONDS = 60.0


class AskedFile:
    """The time of the last request of the interval, kept over restarts as a file's time of change.

    Without it a board that is switched off each night never reaches the end of an interval of a day.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now

    def elapsed(self) -> float:
        """Seconds since the last request by the wall clock, never negative; 0.0 where none is on record."""
        with contextlib.suppress(OSError):
            ago = self._now() - self._path.stat().st_mtime
            if ago >= 0:
                return ago
        self.note()  # a later start counts from now
        return 0.0

    def note(self) -> None:
        """Record a request; a disk that cannot be written costs no more than the record."""
        with contextlib.suppress(OSError):
            self._path.touch(mode=0o600)
            os.utime(self._path, (self._now(), self._now()))


class MonotonicInterval(IntervalTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires once per interval of the monotonic clock; after a longer pause only once."""

    def __init__(self, seconds: float, monotonic: Monotonic = since_boot, *, elapsed: float = 0.0) -> None:
        """``elapsed`` seconds of the first interval are over; the rest of it is at least a minute."""
        # Without a zone APScheduler asks for the name of the local one, which a machine may not have.
        super().__init__(seconds=seconds, timezone="UTC")
        self.seconds = seconds
        self._monotonic = monotonic
        self._due = monotonic() + max(seconds - elapsed, min(seconds, _SETTLED_SECONDS))

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The moment after ``now`` at which the monotonic interval ends.

        Args:
            previous_fire_time: None when a job is added or rescheduled, else the moment of this run.
            now: The present moment of the wall clock.
        """
        left = self._due - self._monotonic()
        if previous_fire_time is None and left <= 0:
            return now  # it ended while the board was suspended, and nothing has run since
        # A slewed wall clock fires a little early; that still counts as the end of this interval.
        if left <= 0 or (previous_fire_time is not None and left < self.seconds / 2):
            left = self.seconds if left <= -self.seconds else left + self.seconds
            self._due = self._monotonic() + left
        return now + timedelta(seconds=left)


class DailyOpening(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires at a local time of day, once a day; days that a clock skips are not made up for.

    The C library converts between local time and UTC, as where the window is compared with the time of day.
    APScheduler's own trigger asks for a time zone by its name, which is missing where TZ is a rule and where
    /etc/localtime is a file. It also returns a moment of the past in the hour that a clock repeats.
    """

    def __init__(self, hour: int, minute: int) -> None:
        self.opens = wall_time(hour, minute)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The next opening after ``now`` in UTC, whenever the last one was.

        A time that the clock skips falls as long after the change as it would have without one; of a time
        that it repeats, the first counts.
        """
        day = now.astimezone().date()
        while True:
            # Not astimezone, which takes a time that is skipped to be before the change.
            local = datetime.combine(day, self.opens)
            opening = datetime.fromtimestamp(local.timestamp(), timezone.utc)
            if opening > now:
                return opening
            day += timedelta(days=1)


def build(
    interval_seconds: float,
    window: str,
    tick: Callable[[str], None],
    *,
    asked: AskedFile | None = None,
    monotonic: Monotonic = since_boot,
) -> BackgroundScheduler:
    """A scheduler, not started yet, that calls ``tick(trigger)`` every interval and when the window opens.

    After a suspended night one request is enough (``coalesce``). A late request still counts
    (``misfire_grace_time=None``). Posting is instant, so two at once would be a bug (``max_instances=1``).

    Args:
        interval_seconds: Seconds between requests.
        window: ``HH:MM-HH:MM`` local time in which rounds may start, or empty for always.
        tick: Called on the scheduler's thread; must not block.
        asked: Where the last request is recorded over restarts; None records none.
        monotonic: The clock of the interval, in seconds; it counts while the board is suspended.
    """
    # The interval uses UTC, so that a change of summer time does not shift it.
    scheduler = BackgroundScheduler(
        timezone="UTC",
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    elapsed = asked.elapsed() if asked is not None else 0.0
    interval = MonotonicInterval(interval_seconds, monotonic, elapsed=elapsed)

    def due(trigger: str) -> None:
        # A shorter interval ends soon after any start: its record would only wear the disk.
        if asked is not None and scheduler.get_job("interval").trigger.seconds > _SETTLED_SECONDS:
            asked.note()
        tick(trigger)

    scheduler.add_job(due, interval, args=["interval"], id="interval")
    if window:
        scheduler.add_job(tick, _opening(window), args=["window"], id="window")
    return scheduler


def change(
    scheduler: BackgroundScheduler, interval_seconds: float, window: str, tick: Callable[[str], None]
) -> None:
    """Have a running scheduler call ``tick`` at another interval and opening; the interval begins anew."""
    scheduler.reschedule_job("interval", trigger=MonotonicInterval(interval_seconds))
    if window:
        scheduler.add_job(tick, _opening(window), args=["window"], id="window", replace_existing=True)
    elif scheduler.get_job("window") is not None:
        scheduler.remove_job("window")


def follow(scheduler: BackgroundScheduler, tick: Callable[[str], None]) -> None:
    """The wall clock was set or the board slept: the interval ends when it would have, the window opens anew.

    Where there is a window, one request is made at once: its opening may have been leapt over, and outside of
    it a request is refused.
    """
    now = datetime.now(scheduler.timezone)
    for job in scheduler.get_jobs():
        job.modify(next_run_time=job.trigger.get_next_fire_time(None, now))
    if scheduler.get_job("window") is not None:
        tick("window")


def next_look(scheduler: BackgroundScheduler, window_open: bool) -> datetime | None:
    """When a running scheduler asks next, to any effect: while the window is closed, when that opens.

    None where no such job is scheduled.
    """
    moments = {job.id: getattr(job, "next_run_time", None) for job in scheduler.get_jobs()}
    if not window_open and moments.get("window") is not None:
        return moments["window"]
    return min((moment for moment in moments.values() if moment is not None), default=None)


def _opening(window: str) -> DailyOpening:
    hour, minute = window.split("-", maxsplit=1)[0].split(":")
    return DailyOpening(int(hour), int(minute))
