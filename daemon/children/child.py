"""What every child program does: lower its priority, open its stream of events, report its errors."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import TextIO

from dance_ondevice.daemon.children import jobs

PR_SET_PDEATHSIG = 1


def open_events() -> TextIO:
    """Open the stream of events on standard output; whatever libraries print goes to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that there was too little memory, in the words of Python, torch or OpenCV."""
    text = str(error)
    return isinstance(error, MemoryError) or "allocate memory" in text or "Insufficient memory" in text


def emit(events: TextIO, event: jobs.Event) -> None:
    """Report one event to the parent, as one line of JSON."""
    events.write(jobs.encode(event).decode() + "\n")
    events.flush()


def lower_priority(*, parent: int, background: bool = True) -> None:
    """Be killed first when memory runs out, end with the parent, and run at SCHED_IDLE and nice 19.

    Args:
        parent: process id of the daemon; the child ends at once where it is gone already.
        background: False leaves out SCHED_IDLE and nice 19, so that it competes like any other program.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)  # the parent died before the line above took hold
    # Each of these may be forbidden in a container; the round then merely runs at the usual priority.
    if background:
        with contextlib.suppress(OSError):
            os.nice(19)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")
