"""The schedule: APScheduler jobs that only post requests to the rounds thread."""

from __future__ import annotations

from collections.abc import Callable

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger


def build(interval_seconds: float, window: str, tick: Callable[[str], None]) -> BackgroundScheduler:
    """A scheduler, not started yet, that calls ``tick(trigger)`` every interval and when the window opens.

    After a suspended night one request is enough (``coalesce``). A late request still counts
    (``misfire_grace_time=None``). Posting is instant, so two at once would be a bug (``max_instances=1``).

    Args:
        interval_seconds: Seconds between requests.
        window: ``HH:MM-HH:MM`` local time in which rounds may start, or empty for always.
        tick: Called on the scheduler's thread; must not block.
    """
    # The interval uses UTC, so that a change of summer time does not shift it.
    scheduler = BackgroundScheduler(
        timezone="UTC",
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    scheduler.add_job(tick, IntervalTrigger(seconds=interval_seconds), args=["interval"], id="interval")
    if window:
        scheduler.add_job(tick, _opening(window), args=["window"], id="window")
    return scheduler


def change(
    scheduler: BackgroundScheduler, interval_seconds: float, window: str, tick: Callable[[str], None]
) -> None:
    """Have a running scheduler call ``tick`` at another interval and opening; the interval begins anew."""
    scheduler.reschedule_job("interval", trigger=IntervalTrigger(seconds=interval_seconds))
    if window:
        scheduler.add_job(tick, _opening(window), args=["window"], id="window", replace_existing=True)
    elif scheduler.get_job("window") is not None:
        scheduler.remove_job("window")


def _opening(window: str) -> CronTrigger:
    hour, minute = window.split("-", maxsplit=1)[0].split(":")
    return CronTrigger(hour=int(hour), minute=int(minute), timezone=_local_timezone())


def _local_timezone() -> str:
    from tzlocal import get_localzone_name

    return get_localzone_name() or "UTC"
