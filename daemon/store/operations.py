"""The operations of the store, each with the future of its result, and errors of the index for users."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.store.samples import NewSample, Stored, StoreError, StoreFull


@dataclass(frozen=True)
class AddSample:
    """Store a frame."""

    sample: NewSample
    future: Future[Stored]


@dataclass(frozen=True)
class AddLabel:
    """Label a stored frame, replacing an earlier label.

    ``confidence`` is a model's own, 0 to 1; with ``import_id`` the earlier label is kept for an undo; with
    ``replaces`` only the label of this digest is replaced ("" for none), or one that a model made.
    """

    sample_id: str
    png: bytes
    classes: Sequence[int]
    source: str
    future: Future[Any]
    confidence: float | None = None
    import_id: str = ""
    replaces: str | None = None


@dataclass(frozen=True)
class RestoreLabel:
    """Put back the label that a sample had before the last import."""

    sample_id: str
    future: Future[bool]


@dataclass(frozen=True)
class Remove:
    """Remove samples, rows and files; ``allowed`` may raise to keep all; nothing runs in between."""

    ids: Sequence[str]
    future: Future[int]
    allowed: Callable[[Database], None] | None = None


@dataclass(frozen=True)
class Call:
    """Run a function inside the group's transaction."""

    run: Callable[[Database], Any]
    future: Future[Any]


Operation = AddSample | AddLabel | RestoreLabel | Remove | Call


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of an operation for its future: an error, or else a value.

    ``labels`` is 1 if it stored a label, -1 if it took an import's label back.
    """

    future: Future[Any]
    value: Any = None
    error: BaseException | None = None
    labels: int = 0

    def resolve(self) -> None:
        """Set the future's result."""
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)


def is_corrupt(error: BaseException) -> bool:
    """Whether an error says that the index itself is damaged."""
    # SQLITE_CORRUPT and SQLITE_NOTADB are the errors that Python raises as the base class itself.
    return type(error) is sqlite3.DatabaseError


def index_error(error: BaseException) -> StoreError:
    """The error for users that an error of the index amounts to."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
        return StoreFull("the disk is full: the index could not be written; free some space")
    return StoreError(f"the index could not be written: {error}")


def trouble_after(before: str, outcome: Outcome) -> str:
    """Why frames are not stored, after one more frame: the first reason while it lasts, empty once one is."""
    error = outcome.error
    if error is None:
        # That a frame is stored already says nothing about the disk.
        return before if outcome.value.duplicate else ""
    # Errors of other classes are about the frame or its label, not about the store.
    return before or (str(error) if type(error) in (StoreError, StoreFull) else "")
