"""How a round is interrupted without its work being lost: the parent's requests, and the state on disk."""

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

#: Seconds of training that a kill may cost: then the state is saved. That of the default model is 13 MB, and
#: writing wears out a board's flash.
SAVE_SECONDS = 60.0


class Leave(BaseException):
    """SIGTERM arrived.

    Not an Exception: it is raised wherever the trainer happens to be, and nothing there may take it for a
    failure.
    """


@dataclasses.dataclass
class ParentRequests:
    """What the parent has asked for.

    Attributes:
        leave: to leave (SIGTERM).
        finish: to judge what there is (SIGUSR1).
        at_once: whether SIGTERM, besides being noted, raises ``Leave`` in the main thread.
    """

    leave: bool = False
    finish: bool = False
    at_once: bool = False

    def listen(self) -> None:
        """Take note of both signals from now on."""
        signal.signal(signal.SIGTERM, lambda _number, _frame: self._ask_to_leave())
        signal.signal(signal.SIGUSR1, lambda _number, _frame: setattr(self, "finish", True))

    @contextlib.contextmanager
    def later(self) -> Iterator[None]:
        """Keep ``Leave`` back until what must not be torn apart is done.

        Raises:
            Leave: at the end, if it was asked for before or meanwhile.
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
    """The state of the training on disk: whole at every moment, and as old as ``SAVE_SECONDS`` allows."""

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._at = monotonic()
        #: Optimiser steps in it.
        self.step = 0

    @property
    def due(self) -> bool:
        """Whether more would be lost than may be."""
        return self._monotonic() - self._at >= SAVE_SECONDS

    def load(self, trainer: Trainer) -> None:
        """Go on from it, where there is one."""
        # The mark holds the steps done: none for a round that was interrupted before there was a state.
        with contextlib.suppress(FileNotFoundError):
            if (self._folder / "complete").read_bytes() != NO_STEPS:
                trainer.load_state(self._folder)
        self.step, self._at = trainer.step, self._monotonic()

    def write(self, trainer: Trainer) -> None:
        """Save the state, unless it is there or nothing was learnt yet."""
        if trainer.step == self.step or not trainer.samples_seen:
            return
        trainer.save_state(self._folder)
        write_durably(self._folder / "complete", b"%d" % trainer.step)
        self.step, self._at = trainer.step, self._monotonic()
