"""The labels before the last import, kept in the index until the next import or their sample's removal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlite_utils import Database

from dance_ondevice.daemon.store.labelled import make_new
from dance_ondevice.daemon.store.samples import digest

__all__ = ["Before", "find", "keeper", "listed", "restorer"]


@dataclass(frozen=True)
class Before:
    """A sample's label before the last import.

    Attributes:
        png: The label; None where there was none.
        source: The label's source.
        classes: Its class ids, as stored in their column.
        confidence: Mean confidence of the model that made it, if one did.
        imported: Digest of the label that the import wrote.
    """

    png: bytes | None
    source: str | None
    classes: str | None
    confidence: float | None
    imported: str


def keeper(sample_id: str, import_id: str, before: bytes | None, png: bytes) -> Callable[[Database], None]:
    """A function, to be run before the row changes, that keeps the old label and drops other imports'.

    Args:
        sample_id: The sample that an import labels.
        import_id: The import's name, which all labels of one command share.
        before: The label that is replaced, None where there is none.
        png: The label that replaces it.
    """

    def keep(db: Database) -> None:
        db.execute("DELETE FROM label_undo WHERE import_id <> ?", [import_id])
        db.execute(
            "INSERT INTO label_undo (sample_id, import_id, png, source, classes, confidence, imported) "
            "SELECT id, ?, ?, label_source, classes, label_confidence, ? FROM samples WHERE id = ? "
            "ON CONFLICT (sample_id) DO UPDATE SET imported = excluded.imported",
            [import_id, before, digest(png), sample_id],
        )

    return keep


def find(db: Database, sample_id: str) -> Before | None:
    """The label before the last import; None where that import did not label the sample."""
    row = db.execute(
        "SELECT png, source, classes, confidence, imported FROM label_undo WHERE sample_id = ?", [sample_id]
    ).fetchone()
    return None if row is None else Before(*row)


def listed(db: Database, after: str, count: int) -> list[str]:
    """The next samples of the last import, in the order of their ids."""
    rows = db.execute(
        "SELECT sample_id FROM label_undo WHERE sample_id > ? ORDER BY sample_id LIMIT ?", [after, count]
    )
    return [row[0] for row in rows]


def restorer(sample_id: str, before: Before, label: str | None, growth: int) -> Callable[[Database], bool]:
    """A function that restores the row and deletes the kept label; it returns whether there is a label again.

    Args:
        sample_id: The sample.
        before: Its earlier label.
        label: Path of the earlier label's file, relative to the state folder; None where there was none.
        growth: Bytes by which the sample's files grow.
    """

    def restore(db: Database) -> bool:
        db.execute(
            "UPDATE samples SET label_path = ?, label_source = ?, classes = ?, label_confidence = ?, "
            "bytes = bytes + ? WHERE id = ?",
            [label, before.source, before.classes, before.confidence, growth, sample_id],
        )
        make_new(db, sample_id)  # a round may have learnt from the import's label
        db.execute("DELETE FROM label_undo WHERE sample_id = ?", [sample_id])
        return label is not None

    return restore
