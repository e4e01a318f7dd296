"""Lets other threads end a wait in ``poll``."""

from __future__ import annotations

import contextlib
import os
import select
import threading


class Waker:
    """An eventfd that other threads may signal, even while it is being closed."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._closed = False
        #: Whether the descriptor is readable already: a call of the kernel less for each further wake.
        self._signalled = False

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self._fd

    def wake(self) -> None:
        """Make the descriptor readable; does nothing once closed."""
        with self._lock:
            if not (self._closed or self._signalled):
                self._signalled = True
                os.eventfd_write(self._fd, 1)

    def wait(self, timeout: float) -> None:
        """Return when woken or after ``timeout`` seconds."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if poll.poll(timeout * 1000):
            self.clear()

    def clear(self) -> None:
        """Make the descriptor unreadable again; then look at what others did before they called ``wake``."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        # Only now: a wake in between does nothing, and what it tells of is looked at after this.
        self._signalled = False

    def close(self) -> None:
        """Release the descriptor; from then on its number may belong to another file."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._fd)
