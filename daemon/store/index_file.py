"""Opens the index at start-up: checks it, and moves a damaged one aside and makes a new one."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlite_utils import Database

from dance_ondevice.daemon.store.schema import TABLES, migrate
from dance_ondevice.daemon.store.service import open_writer
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.files import sync_directory

log = logging.getLogger(__name__)

#: Tables that cannot be rebuilt from files, and so are copied from a damaged index as far as they can be
#: read.
SALVAGED = ("rounds", "round_samples", "ledger", "energy", "budget")
_WITH_WAL = ("", "-wal", "-shm")


@dataclass(frozen=True, kw_only=True)
class OpenedIndex:
    """An index that can be used, and what was done to get it.

    Attributes:
        db: Connection for writing; the caller closes it.
        fault: Why a new index was made; empty when the existing one is sound.
        moved_aside: Files of the old index, under their new names.
        salvaged: Tables that were copied completely.
    """

    db: Database
    fault: str
    moved_aside: tuple[Path, ...]
    salvaged: tuple[str, ...]


def open_index(paths: StatePaths, *, anew: bool = False) -> OpenedIndex:
    """Open the index; one that is missing or broken is moved aside and replaced.

    Args:
        paths: The state directory, whose lock the caller holds.
        anew: Replace it even if it is sound.

    Raises:
        SchemaTooNew: A later version wrote it; it is left alone.
        sqlite3.OperationalError: It cannot be opened, and not because it is damaged: no permission, locked, a
        failing disk.
    """
    fault = "a new one was asked for" if anew else _find_fault(paths)
    moved: tuple[Path, ...] = ()
    if fault:
        moved = _move_aside(paths)
    db = open_writer(paths)
    try:
        migrate(db)
        sync_directory(paths.root)
        salvaged = _salvage(db, moved[0]) if moved else ()
    except BaseException:
        db.close()
        raise
    return OpenedIndex(db=db, fault=fault, moved_aside=moved, salvaged=salvaged)


def _find_fault(paths: StatePaths) -> str:
    """Why the index cannot be used; empty if it can. It is also migrated."""
    if not paths.database.exists():
        return "missing"
    for file in (_sibling(paths.database, suffix) for suffix in _WITH_WAL):
        if file.exists() and not file.is_file():  # SQLite would wait for a pipe
            raise sqlite3.OperationalError(f"{file} is no file; move it away")
    if paths.database.stat().st_size == 0:
        return "empty"
    try:
        # Read-only, since SQLite would otherwise truncate the WAL of a damaged database, perhaps all that is
        # left.
        with contextlib.closing(_read_only(paths.database)) as connection:
            # Reads every page once without comparing indexes with their tables, in about the time of a copy.
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                return str(verdict)
            tables = _tables(connection)
        if tables and "_sqlite_migrations" not in tables:
            return f"not an index of this program: it has the tables {', '.join(sorted(tables))}"
        with contextlib.closing(open_writer(paths)) as db:
            migrate(db)
            missing = set(TABLES) - _tables(db.conn)
            if not missing and db.execute("SELECT count(*) FROM sample_totals").fetchone()[0] == 0:
                return "its totals are missing"
    except sqlite3.DatabaseError as error:
        # SQLITE_CORRUPT and SQLITE_NOTADB are raised as the base class; subclasses do not mean a damaged
        # file.
        if type(error) is not sqlite3.DatabaseError:
            raise
        return str(error)
    return f"the tables {', '.join(sorted(missing))} are missing" if missing else ""


def _read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _move_aside(paths: StatePaths) -> tuple[Path, ...]:
    """Rename the database and its WAL so that they still match; the database comes first."""
    present = [suffix for suffix in _WITH_WAL if _sibling(paths.database, suffix).exists()]
    if not present:
        return ()
    for number in itertools.count(1):
        target = paths.database.with_name(f"{paths.database.name}.broken-{number}")
        if not any(_sibling(target, suffix).exists() for suffix in _WITH_WAL):
            break
    for suffix in present:
        _sibling(paths.database, suffix).rename(_sibling(target, suffix))
    sync_directory(paths.root)
    return tuple(_sibling(target, suffix) for suffix in present)


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _salvage(db: Database, old: Path) -> tuple[str, ...]:
    """Copy the bookkeeping tables; returns those that could be read completely."""
    salvaged: list[str] = []
    with contextlib.closing(_read_only(old)) as source:
        for table in SALVAGED:
            try:
                with db.atomic():
                    for columns, row in _rows(source, table, set(db.table(table).columns_dict)):
                        marks = ", ".join("?" * len(row))
                        db.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", row)
            except sqlite3.Error as error:
                log.warning("table not salvaged table=%s error=%s", table, error)
            else:
                salvaged.append(table)
    # What is stored from now on comes after every round on record.
    with db.atomic():
        db.execute(
            "UPDATE sample_totals SET "
            "arrivals = max(arrivals, (SELECT coalesce(max(arrivals), 0) FROM rounds))"
        )
    return tuple(salvaged)


def _rows(
    source: sqlite3.Connection, table: str, wanted: set[str]
) -> Iterator[tuple[str, tuple[object, ...]]]:
    present = [row[1] for row in source.execute(f"PRAGMA table_info({table})")]
    if not present:
        raise sqlite3.OperationalError(f"no such table: {table}")
    columns = ", ".join(column for column in present if column in wanted)
    for row in source.execute(f"SELECT {columns} FROM {table}"):
        yield columns, row
