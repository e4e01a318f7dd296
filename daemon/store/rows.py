"""Rows of samples: those that exist, as the writer reads them, new ones, and those whose image is gone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.store.samples import NewSample, StoreError, image_digest, label_path

__all__ = ["INSERT", "KNOWN", "Known", "bring_back", "classes_json", "new_row", "read_known", "set_aside"]

#: Rows without an image that are kept, the latest: a disk that is away may hold as many.
_MISSING_KEPT = 100_000

#: Selects the columns that ``read_known`` reads; a condition is appended.
KNOWN = (
    "SELECT id, path, width, height, native_width, native_height, origin, label_path, label_source "
    "FROM samples"
)

#: The columns that are attributes of a new sample under the same name, then those computed from it.
_GIVEN = (
    *("id", "camera", "seq", "captured_at", "received_at", "format", "width", "height"),
    *("native_width", "native_height", "score", "quantile", "scale", "weight", "reason", "signature"),
)
_MADE = ("path", "bytes", "digest", "received_digest", "label_path", "label_source", "classes")
_COLUMNS = (*_GIVEN, *_MADE)
INSERT = f"INSERT INTO samples ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' for _ in _COLUMNS)})"
_given = attrgetter(*_GIVEN)


@dataclass(frozen=True, kw_only=True)
class Known:
    """A sample that is stored, or will be once this group is done; ``native`` is None where unknown.

    ``label_source`` is the source of its present label, or of the one that this group writes.
    """

    id: str
    image: Path
    stored: tuple[int, int]
    native: tuple[int, int] | None
    label_bytes: int | None
    label_source: str | None = None


def read_known(db: Database, root: Path, query: str, parameters: Sequence[object]) -> Known | None:
    """The first sample of a query that begins with ``KNOWN``; None where there is none.

    Args:
        db: The index.
        root: The state folder.
        query: The query.
        parameters: Its parameters.

    Raises:
        StoreError: The size of its label cannot be read from the disk.
    """
    row = db.execute(query, parameters).fetchone()
    if row is None:
        return None
    identifier, path, width, height, native_width, native_height, origin, label, source = row
    label_bytes: int | None = None
    if label is not None:
        label_bytes = _size(root / label)
    unknown_native = origin == "rebuilt" and label is None
    return Known(
        id=identifier,
        image=root / path,
        stored=(width, height),
        native=None if unknown_native else (native_width, native_height),
        label_bytes=label_bytes,
        label_source=source,
    )


def new_row(sample: NewSample, image: Path, received: str, root: Path) -> tuple[object, ...]:
    """The values of ``INSERT`` for a sample.

    Args:
        sample: The sample.
        image: Path of its image.
        received: Digest of the image as it came.
        root: The state folder, which paths are relative to.
    """
    # Cut as text: pathlib takes longer for this than SQLite for the row.
    path = str(image)[len(str(root)) + 1 :]
    label = None if sample.label is None else str(label_path(Path(path)))
    stored = received if sample.received_digest is None else image_digest(sample.data)
    source = sample.label_source if label else None
    classes = classes_json(sample.classes) if label else None
    return (*_given(sample), path, sample.size, stored, received, label, source, classes)


def set_aside(db: Database, ids: Sequence[str]) -> None:
    """Take the rows of samples whose image is gone out of the index, and keep them in case it comes back."""
    for identifier in ids:
        (row,) = db.query("SELECT * FROM samples WHERE id = ?", [identifier])
        db.execute("DELETE FROM missing_samples WHERE id = ?", [identifier])
        db.execute("INSERT INTO missing_samples (id, row) VALUES (?, ?)", [identifier, json.dumps(row)])
        db.execute("DELETE FROM samples WHERE id = ?", [identifier])
    db.execute(
        "DELETE FROM missing_samples WHERE rowid NOT IN "
        "(SELECT rowid FROM missing_samples ORDER BY rowid DESC LIMIT ?)",
        [_MISSING_KEPT],
    )


def bring_back(db: Database, identifier: str, path: str, digest: str) -> dict[str, Any] | None:
    """Put a row that was set aside back into the index; returns it, or None if there is none of this image.

    Args:
        db: The index.
        identifier: Sample id.
        path: The image's path, relative to the state folder.
        digest: ``image_digest`` of the image; a row of before 0.2.0, with another kind, is taken as it is.
    """
    found = db.execute("SELECT row FROM missing_samples WHERE id = ?", [identifier]).fetchone()
    if found is None:
        return None
    db.execute("DELETE FROM missing_samples WHERE id = ?", [identifier])
    row: dict[str, Any] = json.loads(found[0])
    if row["path"] != path or (len(row["digest"]) == len(digest) and row["digest"] != digest):
        return None
    db.table("samples").insert(row)
    # Inserting numbers it as newly arrived, which it is not.
    db.execute("UPDATE samples SET arrival = ? WHERE id = ?", [row["arrival"], identifier])
    return row


def classes_json(classes: Sequence[int] | None) -> str | None:
    """Class ids as JSON, for their column."""
    return None if classes is None else json.dumps(sorted(set(classes)))


def _size(file: Path) -> int:
    """Bytes of a file, 0 where there is none.

    Raises:
        StoreError: The disk does not answer; this concerns one sample, not the whole store.
    """
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise StoreError(f"{file} could not be looked up: {error}; check the disk") from error
