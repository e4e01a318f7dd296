"""Notes of inference on stored frames: the live model's uncertainty and the condition.

They are written in groups: one short transaction for many frames, some seconds later, when those that are
kept have their rows. Only the live version's uncertainty is kept: notes of other versions are not written,
and all are deleted when another version goes live.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future

from sqlite_utils import Database

from dance_ondevice.daemon.store.service import Store

__all__ = ["SampleNotes", "forget_uncertainties"]

log = logging.getLogger(__name__)

_MOST = 256
_SECONDS = 5.0


class SampleNotes:
    """Collects notes on one thread, and has the store write them."""

    def __init__(self, store: Store, *, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._notes: dict[str, tuple[float, str, str]] = {}
        self._since = 0.0

    def note(self, sample: str, confidence: float, condition: str, version: str = "") -> None:
        """Add the note on a frame, whether it is stored or not.

        Args:
            sample: The sample's id.
            confidence: The live model's mean confidence, 0 to 1.
            condition: Name of the condition; empty where there is none.
            version: The version that predicted with that confidence.
        """
        if not self._notes:
            self._since = self._monotonic()
        self._notes[sample] = (1.0 - confidence, condition, version)
        if len(self._notes) >= _MOST or self._monotonic() - self._since >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Queue all notes for writing; returns at once."""
        notes, self._notes = self._notes, {}
        if notes:
            rows = [
                (version, unsure, condition, sample) for sample, (unsure, condition, version) in notes.items()
            ]
            self._store.submit(lambda db: _write(db, rows)).add_done_callback(_complain)


def forget_uncertainties(db: Database) -> None:
    """Another version is live: how unsure the one before was says nothing of it."""
    db.conn.execute("UPDATE samples SET uncertainty = NULL WHERE uncertainty IS NOT NULL")


def _write(db: Database, rows: list[tuple[str, float, str, str]]) -> None:
    db.conn.executemany(
        "UPDATE samples SET uncertainty = CASE WHEN ? IN "
        "(SELECT version FROM versions WHERE status <> 'live') THEN uncertainty ELSE ? END, "
        "condition = nullif(?, '') WHERE id = ?",
        rows,
    )


def _complain(done: Future[None]) -> None:
    if (error := done.exception()) is not None:
        log.warning("notes of inference not written error=%s", error)
