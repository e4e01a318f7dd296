"""The clockwork: APScheduler jobs that only post requests to the rounds thread."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger


def build(interval_seconds: float, window: str, tick: Callable[[str], None]) -> BackgroundScheduler:
    """A scheduler, not yet started, that calls ``tick(trigger)`` every interval and when the window opens.

    ``coalesce``: after a suspended night one request is enough. ``misfire_grace_time=None``: a late request
    is still a request. ``max_instances=1``: posting is instant, two at once would be a bug.

    Args:
        interval_seconds: seconds between requests.
        window: ``HH:MM-HH:MM`` local time in which rounds may start, or empty for always.
        tick: called on the scheduler's thread; must not block.
    """
    # UTC for the interval: a change of summer time must not shift or double it.
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


def next_look(scheduler: BackgroundScheduler, window_open: bool) -> datetime | None:
    """When a running scheduler asks next, to any effect: while the window is closed, when that opens.

    None where no such job is scheduled.
    """
    moments = {job.id: getattr(job, "next_run_time", None) for job in scheduler.get_jobs()}
    if not window_open and moments.get("window") is not None:
        return moments["window"]
    return min((moment for moment in moments.values() if moment is not None), default=None)


def _opening(window: str) -> CronTrigger:
    hour, minute = window.split("-", maxsplit=1)[0].split(":")
    return CronTrigger(hour=int(hour), minute=int(minute), timezone=_local_timezone())


def _local_timezone() -> str:
    from tzlocal import get_localzone_name

    return get_localzone_name() or "UTC"
