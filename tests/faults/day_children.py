"""The trainer of a running daemon, held still so that what is done to it surely meets its round."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: The module that a trainer runs.
_TRAINER = "dance_ondevice.daemon.trainer.main"


@dataclass(frozen=True)
class Trainer:
    """A process that trains for a round."""

    pid: int
    round: str

    def send(self, number: int) -> None:
        """Send a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def hold_trainer(daemon: int) -> Trainer | None:
    """Stop the daemon's trainer (SIGSTOP); None when there is none.

    A round ends after its trainer has, so that the round of a trainer that stands still is open.
    """
    for pid in _children(daemon):
        with contextlib.suppress(OSError, ValueError):  # it has just ended
            command = Path(f"/proc/{pid}/cmdline").read_text()
            if _TRAINER not in command:
                continue
            (job,) = (part for part in command.split("\0") if part.endswith("job.json"))
            os.kill(pid, signal.SIGSTOP)
            if _state(pid) not in "ZX":
                return Trainer(pid, Path(job).parent.name)
    return None


def _state(pid: int) -> str:
    """R, S, D, T, or Z for one that has ended and was not waited for."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            yield from map(int, (task / "children").read_text().split())
