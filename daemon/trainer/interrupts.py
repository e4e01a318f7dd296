"""Interrupting a round without losing its work: the parent's requests, and the saved state on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dance_ondevice.daemon.children.jobs import NO_STEPS
from dance_ondevice.files import write_durably

if TYPE_CHECKING:
    from dance_ondevice.training.trainer import Trainer

__all__ = ["SAVE_SECONDS", "Leave", "ParentRequests", "Saved"]

#: The most seconds of training that a kill may lose; the state is saved that often. The default model's state
#: is 13 MB, and more frequent writes would wear out a board's flash memory.
SAVE_SECONDS = 60.0


class Leave(BaseException):
    """Raised when SIGTERM arrives.

    It is not an Exception, because it can be raised anywhere in the trainer and must not be caught as a
    failure.
    """


@dataclasses.dataclass
class ParentRequests:
    """The requests of the parent process.

    Attributes:
        leave: Whether the parent asked the trainer to leave (SIGTERM).
        finish: Whether it asked for the result so far to be judged (SIGUSR1).
        at_once: Whether SIGTERM, besides being noted, raises ``Leave`` in the main thread.
    """

    leave: bool = False
    finish: bool = False
    at_once: bool = False

    def listen(self) -> None:
        """Record both signals from now on."""
        signal.signal(signal.SIGTERM, lambda _number, _frame: self._ask_to_leave())
        signal.signal(signal.SIGUSR1, lambda _number, _frame: setattr(self, "finish", True))

    @contextlib.contextmanager
    def later(self) -> Iterator[None]:
        """Delay ``Leave`` until the block, which must not be interrupted, has ended.

        Raises:
            Leave: At the end of the block, if SIGTERM came before or during it.
        """
        self.at_once = False
        try:
            yield
        finally:
            self.at_once = True
        if self.leave:
            raise Leave

    def _ask_to_leave(self) -> None:
        asked, self.leave = self.leave, True
        if self.at_once and not asked:
            raise Leave


class Saved:
    """The saved state of the training: always complete on disk, and at most ``SAVE_SECONDS`` old when due."""

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._at = monotonic()
        #: Number of optimiser steps in the saved state.
        self.step = 0

    @property
    def due(self) -> bool:
        """Whether ``SAVE_SECONDS`` have passed since the last save."""
        return self._monotonic() - self._at >= SAVE_SECONDS

    def load(self, trainer: Trainer) -> None:
        """Resume the trainer from the saved state, if there is one."""
        # The mark holds the number of steps done: none for a round that was interrupted before a state was
        # saved.
        with contextlib.suppress(FileNotFoundError):
            if (self._folder / "complete").read_bytes() != NO_STEPS:
                trainer.load_state(self._folder)
        self.step, self._at = trainer.step, self._monotonic()

    def write(self, trainer: Trainer) -> None:
        """Save the state, unless this step is saved already or nothing was learnt yet."""
        if trainer.step == self.step or not trainer.samples_seen:
            return
        trainer.save_state(self._folder)
        write_durably(self._folder / "complete", b"%d" % trainer.step)
        self.step, self._at = trainer.step, self._monotonic()
