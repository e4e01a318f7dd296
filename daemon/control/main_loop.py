"""The main thread while the daemon runs: signals, failed services, the clock, and the service manager."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from dance_ondevice.daemon.config.load import ConfigError
from dance_ondevice.daemon.config.reload import Changes
from dance_ondevice.daemon.control import status
from dance_ondevice.daemon.control.running import Running
from dance_ondevice.daemon.system import systemd as notify
from dance_ondevice.daemon.system.clock import ClockWatch, ZoneWatch
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.signals import RELOAD, STOP, Signals

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_STATUS_SECONDS = 5.0
#: Looks in a row at which a thread gives no sign of life, after which a daemon ends that no manager watches
#: (in a container). Counted, since time also passes while the whole process stands still.
_HANGING_LOOKS = 60


def run(
    running: Running,
    services: Sequence[Service],
    signals: Signals,
    *,
    environ: Mapping[str, str],
    now: Callable[[], float],
    monotonic: Callable[[], float],
    since_boot: Callable[[], float],
) -> bool:
    """Notify the watchdog until a stop or a failure; returns whether a service failed.

    Args:
        running: The parts of the daemon.
        services: Its services, all of which have started.
        signals: Source of the signals to stop and to reload.
        environ: Environment that names the socket of the service manager.
        now: Wall clock in seconds.
        monotonic: Monotonic clock in seconds.
        since_boot: Monotonic clock in seconds that also counts while the board is suspended.
    """
    interval = notify.watchdog_interval(environ)
    tick = _TICK_SECONDS if interval is None else min(_TICK_SECONDS, interval / 3)
    last_status = monotonic()
    frame_rate = status.FrameRate(last_status)
    clocks: dict[str, ClockWatch | ZoneWatch] = {
        "wall clock was set": ClockWatch(now, since_boot),
        "board was suspended": ClockWatch(since_boot, monotonic),
        "local time has another offset": ZoneWatch(),
    }
    hanging = 0

    def status_line() -> str:
        frames = sum(running.parts.instruments.frame_counts().values())
        return status.line(running.parts, frame_rate.update(frames, monotonic()))

    notify.notify(f"READY=1\nSTATUS={status_line()}", environ)
    while True:
        number = signals.next(tick)
        if number in STOP:
            return False
        if number == RELOAD:
            # A refused file: the log has the reasons, and the daemon keeps its configuration.
            with contextlib.suppress(ConfigError):
                reload(running, environ)
        for what, clock in clocks.items():
            if seconds := clock.moved():
                running.follow_clock(what, seconds)
        for service in services:
            if not service.alive:
                log.critical("stopping reason=%s failed error=%r", service.name, service.failure)
                return True
        stale = [s.name for s in services if monotonic() - s.last_beat > s.max_silence]
        hanging = hanging + 1 if stale else 0
        if hanging >= _HANGING_LOOKS and interval is None:
            log.critical("stopping reason=%s hangs", ",".join(stale))
            return True
        if stale:
            # The watchdog is not notified, so that systemd restarts a daemon whose thread hangs.
            log.error("no heartbeat services=%s", ",".join(stale))
        elif interval is not None:
            notify.notify("WATCHDOG=1", environ)
        if monotonic() - last_status >= _STATUS_SECONDS:
            last_status = monotonic()
            notify.notify(f"STATUS={status_line()}", environ)


def reload(running: Running, environ: Mapping[str, str]) -> Changes:
    """Read the configuration again and apply it, with the service manager's notifications around it.

    Raises:
        ConfigError: The configuration cannot be used; the present one stays.
    """
    started = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify.notify(f"RELOADING=1\nMONOTONIC_USEC={started}", environ)
    try:
        return running.reloader.reload()
    finally:
        notify.notify("READY=1", environ)
