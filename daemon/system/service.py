"""The thread of each part of the daemon, with its name, its heartbeat, its stop and its recorded failure."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod

from dance_ondevice.daemon.system.workers import Workers

log = logging.getLogger(__name__)


class Service(ABC):
    """A long-running part of the daemon, which owns one thread and the resources that the thread opens.

    ``start()`` runs ``setup()`` on the new thread and returns after it succeeded, or raises its exception.
    ``run()`` loops until ``self.stopping`` is set, and calls ``beat()`` at least every few seconds.
    ``ask_to_stop()`` sets ``stopping`` and wakes the loop; ``stop()`` also joins the thread. ``teardown()``
    closes what ``setup()`` opened. The supervisor stops everything when one service fails.
    """

    #: Longest silence in seconds after which the supervisor stops notifying the watchdog.
    max_silence = 20.0
    #: Worker threads of the service, which starts and closes them itself.
    workers: tuple[Workers, ...] = ()

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self.last_beat = time.monotonic()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    @abstractmethod
    def run(self) -> None:
        """Work until ``self.stopping`` is set; an exception is recorded as the service's failure."""

    def setup(self) -> None:  # noqa: B027 - nothing to do is a fine default
        """Open what the service owns, on its own thread."""

    def teardown(self) -> None:  # noqa: B027 - nothing to do is a fine default
        """Close what ``setup`` opened; runs even after a failed ``run`` or a partial ``setup``."""

    def wake(self) -> None:  # noqa: B027 - nothing to do is a fine default
        """Interrupt a blocking wait inside ``run``; called from another thread, maybe more than once."""

    def beat(self) -> None:
        """Record progress: the supervisor notifies the watchdog only while every beat is recent."""
        self.last_beat = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def native_id(self) -> int | None:
        """The kernel's thread id (Linux tid), for CPU accounting; None before start."""
        return self._thread.native_id

    def start(self, timeout: float = 60.0) -> None:
        """Start the thread and wait until ``setup`` is done.

        Raises:
            TimeoutError: ``setup`` took longer than ``timeout`` seconds.
            BaseException: The exception that ``setup`` raised.
        """
        self._thread.start()
        if not self._ready.wait(timeout):
            raise TimeoutError(f"{self.name} did not become ready within {timeout:g} s")
        if self.failure is not None:
            raise self.failure

    def ask_to_stop(self) -> None:
        """Ask the thread to end, without waiting for it."""
        self.stopping.set()
        if self._thread.is_alive():
            self.wake()

    def stop(self, timeout: float = 5.0) -> bool:
        """Ask the thread to end and wait; returns whether it did within ``timeout`` seconds."""
        self.ask_to_stop()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            self.setup()
            self.beat()
            self._ready.set()
            self.run()
        except BaseException as error:  # recorded, and the supervisor acts on it
            self.failure = error
            if self._ready.is_set():
                log.critical("service failed name=%s error=%r", self.name, error, exc_info=error)
        finally:
            try:
                self.teardown()
            finally:
                self._ready.set()
