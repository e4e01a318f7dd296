"""Marks samples whose image or label cannot be read, so that they are not used again and can be reported."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from sqlite_utils import Database

from dance_ondevice.daemon.store.service import Store

__all__ = ["REMEDY", "Finding", "mark", "marked"]

log = logging.getLogger(__name__)

#: Remedy for marked samples, for users.
REMEDY = "put the files back, or remove the samples with `dance-ondevice samples purge --unreadable`"


class Finding(Protocol):
    """A sample that could not be read, and the error."""

    @property
    def id(self) -> str:
        """The sample's id."""
        ...

    @property
    def error(self) -> str:
        """The error, which names the file."""
        ...


@dataclass(frozen=True)
class Marked:
    """A marked sample, and the error."""

    id: str
    error: str


def mark(store: Store, found: Iterable[Finding]) -> None:
    """Mark samples in the index; ids that are not in it, such as those of anchors, are only logged."""
    rows = [(each.error, each.id) for each in found]
    for error, identifier in rows:
        log.warning("sample unreadable id=%s error=%s", identifier, error)
    if rows:
        store.submit(lambda db: _write(db, rows)).result()


def marked(db: Database) -> list[Marked]:
    """All marked samples, by id."""
    rows = db.execute("SELECT id, unreadable FROM samples WHERE unreadable IS NOT NULL ORDER BY id")
    return [Marked(identifier, error) for identifier, error in rows]


def _write(db: Database, rows: list[tuple[str, str]]) -> None:
    db.conn.executemany("UPDATE samples SET unreadable = ? WHERE id = ?", rows)
