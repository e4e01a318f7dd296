"""How the daemon stops: everything at once, and within seconds whatever hangs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from dance_ondevice.daemon.system.service import Service

log = logging.getLogger(__name__)

#: The daemon is down so many seconds after SIGTERM.
STOP_SECONDS = 5.0
#: Seconds after which the process ends without its threads; what is left is for noticing the signal.
END_SECONDS = 4.8
#: Seconds by which all threads but the store's have ended, and by which that has. A child that does not
#: leave is killed and its round recorded within the first (``trainer.STOP_GRACE_SECONDS``).
SERVICES_SECONDS = 3.8
STORE_SECONDS = 4.4


def stop(
    services: Sequence[Service], *, close_metrics: Callable[[], None], monotonic: Callable[[], float]
) -> None:
    """Ask all threads at once, then join them in the order in which they need each other.

    Each wait ends at a deadline of all: a thread that hangs takes the time of no other, and what it leaves
    undone is as safe as after a kill.

    Args:
        services: in the order of their start; the one named ``store`` ends last, since acks in flight and the
            round's record still need it.
        close_metrics: stops the HTTP server, which looks twice a second whether it shall; on a thread.
        monotonic: seconds.
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
