"""Functions of every child program: lowering its priority, its event stream, detecting memory errors."""

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
    """Open the event stream on standard output; prints of libraries then go to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory was short, by the error texts of Python, torch, CUDA and OpenCV."""
    text = str(error)
    texts = ("allocate memory", "Insufficient memory", "CUDA out of memory")
    return isinstance(error, MemoryError) or any(each in text for each in texts)


def emit(events: TextIO, event: jobs.Event) -> None:
    """Report one event to the parent, as one line of JSON."""
    events.write(jobs.encode(event).decode() + "\n")
    events.flush()


def lower_priority(*, parent: int, background: bool = True) -> None:
    """Be killed first when memory runs out, end with the parent, and run at SCHED_IDLE and nice 19.

    Args:
        parent: Process id of the daemon; the child exits at once if it is gone already.
        background: Whether it runs at SCHED_IDLE and nice 19; False lets it compete like any other program.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)  # the parent died before the line above took hold
    # A container may forbid each of these; the child then runs at the usual priority.
    if background:
        with contextlib.suppress(OSError):
            os.nice(19)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")
