"""Marks samples whose image or label cannot be read, so that they are not used again and can be reported."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlite_utils import Database

from dance_ondevice.daemon.store.service import Store

__all__ = ["REMEDY", "Finding", "damaged", "file_fault", "mark", "marked"]

log = logging.getLogger(__name__)

#: Remedy for marked samples, for users.
REMEDY = "put the files back, or remove the samples with `dance-ondevice samples purge --unreadable`"

#: First bytes of a JPEG and of a PNG.
_BEGINNINGS = (b"\xff\xd8", b"\x89P")


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


def file_fault(file: Path) -> str:
    """What is wrong with an image or label, by its first bytes; empty if nothing is."""
    try:
        with file.open("rb") as opened:
            begins = opened.read(2)
    except OSError as error:
        return f"{file}: {error.strerror}"
    return "" if begins in _BEGINNINGS else f"{file}: neither a JPEG nor a PNG"


def damaged(db: Database, root: Path, ids: Iterable[str]) -> list[str]:
    """Those of some samples that are marked, or whose files are gone or no images, in their order.

    A folder that is gone with all its files is no damage: its disk may be away.
    """
    rows = {row[0]: row[1:] for row in db.execute("SELECT id, path, label_path, unreadable FROM samples")}

    def is_damaged(path: str, label: str | None, unreadable: str | None) -> bool:
        files = [root / name for name in (path, label) if name]
        return unreadable is not None or (files[0].parent.is_dir() and any(map(file_fault, files)))

    return [each for each in ids if each in rows and is_damaged(*rows[each])]


def _write(db: Database, rows: list[tuple[str, str]]) -> None:
    db.conn.executemany("UPDATE samples SET unreadable = ? WHERE id = ?", rows)
