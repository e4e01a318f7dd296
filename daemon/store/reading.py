"""Opens the index for reading alone, also where nothing can be written."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

__all__ = ["connect_read_only"]


def connect_read_only(database: Path, timeout: float = 10.0) -> sqlite3.Connection:
    """Connect to an index; for the calling thread alone, which closes the connection.

    SQLite makes files beside a database with a write-ahead log, even to read it: in a folder that this user
    may not write to, or on a read-only disk, it cannot. Where no daemon has left such files, all content is
    in the database itself and nothing writes to it.

    Args:
        database: The file.
        timeout: Seconds to wait for a lock.

    Raises:
        sqlite3.Error: It cannot be opened or read.
    """
    uri = f"file:{quote(str(database.absolute()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return connection
    except sqlite3.OperationalError as error:
        connection.close()
        beside = any(text in str(error) for text in ("unable to open", "readonly"))
        if not beside or not database.is_file() or _log_of(database):
            raise
    except sqlite3.DatabaseError:  # damaged: told by the first look at its content
        return connection
    return sqlite3.connect(f"{uri}&immutable=1", uri=True, timeout=timeout)


def _log_of(database: Path) -> int:
    """Bytes of the write-ahead log beside a database."""
    try:
        return database.with_name(f"{database.name}-wal").stat().st_size
    except FileNotFoundError:
        return 0
