"""What can be asked of the store, each with the future that answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.store.samples import NewSample, Stored


@dataclass(frozen=True)
class AddSample:
    """Keep a frame."""

    sample: NewSample
    future: Future[Stored]


@dataclass(frozen=True)
class AddLabel:
    """Label a frame that was kept, replacing an earlier label; ``confidence`` is a model's own, 0 to 1."""

    sample_id: str
    png: bytes
    classes: Sequence[int]
    source: str
    future: Future[None]
    confidence: float | None = None


@dataclass(frozen=True)
class Remove:
    """Forget samples, rows and files; ``allowed`` may raise to keep them all, and nothing comes between."""

    ids: Sequence[str]
    future: Future[int]
    allowed: Callable[[Database], None] | None = None


@dataclass(frozen=True)
class Call:
    """Run a function inside the group's transaction."""

    run: Callable[[Database], Any]
    future: Future[Any]


Operation = AddSample | AddLabel | Remove | Call


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a future will resolve to: an error, or else a value."""

    future: Future[Any]
    value: Any = None
    error: BaseException | None = None

    def resolve(self) -> None:
        """Tell whoever waits."""
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)
