"""Stops the daemon: all threads at once, within seconds even when one hangs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from dance_ondevice.daemon.system.service import Service

log = logging.getLogger(__name__)

#: The daemon has ended this many seconds after SIGTERM.
STOP_SECONDS = 5.0
#: Seconds after which the process ends without waiting for threads; the rest is for noticing the signal.
END_SECONDS = 4.8
#: Seconds by which all threads but the store's have ended, and by which the store's has. A child that does
#: not exit is killed and its round recorded within the first (``children.process.STOP_GRACE_SECONDS``).
SERVICES_SECONDS = 3.8
STORE_SECONDS = 4.4


def stop(
    services: Sequence[Service], *, close_metrics: Callable[[], None], monotonic: Callable[[], float]
) -> None:
    """Ask all threads to stop at once, then join them in the order in which they depend on each other.

    All waits share their deadlines, so a thread that hangs takes no time from the others; work that it leaves
    undone is as safe as after a kill.

    Args:
        services: The services in the order of their start; the one named ``store`` ends last, since pending
            answers and the round's record need it.
        close_metrics: Stops the HTTP server, which checks twice a second whether it must stop; runs on a
            thread.
        monotonic: Monotonic clock, in seconds.
    """
    started = monotonic()
    first = [service for service in services if service.name != "store"]
    last = [service for service in services if service.name == "store"]
    metrics = threading.Thread(target=close_metrics, name="metrics-close", daemon=True)
    metrics.start()
    for service in first:
        service.ask_to_stop()
    for waited_for, deadline in ((first[::-1], SERVICES_SECONDS), (last, STORE_SECONDS)):
        for service in waited_for:
            if not service.stop(max(0.0, started + deadline - monotonic())):
                log.error("service did not stop in time name=%s", service.name)
    metrics.join(max(0.0, started + STORE_SECONDS - monotonic()))
    log.info("stopped seconds=%.2f", monotonic() - started)
