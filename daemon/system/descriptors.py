"""File descriptors: the limit is raised at the start, and shared out before anybody can use it up.

A process without a free descriptor can neither store a frame nor answer a command, and libzmq ends it: its
listener for Unix sockets takes EMFILE for a fault of the program (``ipc_listener.cpp``). So connections get a
part only.
"""

from __future__ import annotations

import contextlib
import re
import resource
from dataclasses import dataclass
from pathlib import Path

#: What the daemon itself opens: sockets, index, files in work, its trainer's pipes, and some to spare.
_OWN = 128
#: The same where the limit is so low that every one counts.
_OWN_AT_LEAST = 48
_FEWEST = 16
#: What a burst may take before the first of it is closed: libzmq stops accepting after so many events that
#: nobody has taken yet (1002 were seen), at each of three listening sockets that others can reach.
_BURST = 3 * 1010
_MOST_SENDERS, _MOST_READERS, _MOST_COMMANDS = 1024, 512, 32
#: What stands for no limit.
UNLIMITED = 2**31 - 1
#: A limit below which no room is left for a burst: what leaks slowly is closed in time, a flood may not be.
LOW = 4096


@dataclass(frozen=True)
class Shares:
    """How many connections may be open at once.

    Attributes:
        senders: of frames and labels.
        readers: of masks.
        commands: of the control socket.
    """

    senders: int
    readers: int
    commands: int


def raise_limit() -> int:
    """Raise this process's soft limit of open descriptors to the hard one; returns what holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit()


def limit() -> int:
    """This process's limit of open descriptors."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def shares(descriptors: int, max_cameras: int) -> Shares:
    """What connections may take of a limit of descriptors; the rest is kept for control and store.

    Args:
        descriptors: the limit of the process.
        max_cameras: names that senders may use; each may need two connections while it changes over.
    """
    if descriptors >= LOW:
        left = descriptors - _OWN - _BURST
    else:
        left = max(_FEWEST, descriptors - (_OWN if descriptors >= 4 * _OWN else _OWN_AT_LEAST))
    commands = min(_MOST_COMMANDS, left // 4)
    readers = min(_MOST_READERS, (left - commands) // 3)
    senders = min(max(_MOST_SENDERS, 2 * max_cameras), left - commands - readers)
    return Shares(senders, readers, commands)


def limits_of(pid: int, procfs: Path) -> tuple[int, int, int] | None:
    """Soft limit, hard limit and open descriptors of a process; None where it cannot be looked at."""
    folder = procfs / str(pid)
    try:
        found = re.search(
            r"Max open files\s+(\d+|unlimited)\s+(\d+|unlimited)", (folder / "limits").read_text()
        )
        used = sum(1 for _ in (folder / "fd").iterdir())
    except OSError:
        return None
    if found is None:
        return None
    soft, hard = (UNLIMITED if text == "unlimited" else int(text) for text in found.groups())
    return soft, hard, used
