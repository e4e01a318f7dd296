"""Removes samples for good: selects them, checks that no round uses them, and removes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlite_utils import Database

from dance_ondevice.daemon.store.samples import StoreError, delete_samples
from dance_ondevice.daemon.store.schema import migrate
from dance_ondevice.daemon.store.service import Store, open_writer
from dance_ondevice.daemon.system.owner import command_lock
from dance_ondevice.daemon.system.state import StatePaths

__all__ = [
    "MOST_AT_ONCE",
    "PurgeError",
    "SampleInUseError",
    "Selection",
    "in_running_round",
    "is_gone",
    "remove_here",
    "remove_through",
    "select",
]

#: The most samples in one request to the daemon, so that its store is not kept busy for long.
MOST_AT_ONCE = 200
#: A handler of the control socket must return within the longest silence of a heartbeat.
_STORE_SECONDS = 8.0


class PurgeError(ValueError):
    """Samples may not be removed now, or a request names none; the message says why."""


class SampleInUseError(StoreError):
    """A round that has not ended may be reading one of the samples: none was removed."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A selection of samples; criteria that are None are not applied.

    Attributes:
        camera: Name of the camera.
        before: Only samples captured before this second since the epoch.
        after: Only samples captured at this second or later.
        unreadable: Only samples whose image or label was found unreadable.
    """

    camera: str | None = None
    before: float | None = None
    after: float | None = None
    unreadable: bool = False


def select(db: Database, selection: Selection) -> list[str]:
    """The ids of the selected samples, oldest first."""
    conditions = {
        "camera = ?": selection.camera,
        "captured_at < ?": selection.before,
        "captured_at >= ?": selection.after,
    }
    given = {condition: value for condition, value in conditions.items() if value is not None}
    where = " AND ".join(["unreadable IS NOT NULL" if selection.unreadable else "1", *given])
    query = f"SELECT id FROM samples WHERE {where} ORDER BY captured_at, id"
    return [row[0] for row in db.execute(query, list(given.values()))]


def in_running_round(db: Database) -> frozenset[str]:
    """Samples that a round which has not ended may be reading."""
    return frozenset(
        row[0]
        for row in db.execute(
            "SELECT sample_id FROM round_samples JOIN rounds ON rounds.id = round_id WHERE outcome IS NULL"
        )
    )


def _check_unused(db: Database, ids: Sequence[str]) -> None:
    used = in_running_round(db).intersection(ids)
    if used:
        raise SampleInUseError(f"a round that has not ended uses {min(used)}; try again after it")


def remove_through(store: Store, ids: object) -> int:
    """Remove samples of a running daemon; returns how many there were.

    Raises:
        PurgeError: ``ids`` is not a list of at most ``MOST_AT_ONCE`` ids, or a running round uses one of
            them.
        StoreError: They could not be removed.
    """
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids) or len(ids) > MOST_AT_ONCE:
        raise PurgeError(f"ids must be a list of at most {MOST_AT_ONCE} sample ids")
    try:
        return store.remove_samples(ids, allowed=partial(_check_unused, ids=ids)).result(_STORE_SECONDS)
    except SampleInUseError as error:
        raise PurgeError(str(error)) from error


def is_gone(store: Store, camera: str) -> bool:
    """Whether no sample of a camera is stored.

    Raises:
        StoreError: the index cannot be asked.
    """

    def none(db: Database) -> bool:
        return db.execute("SELECT 1 FROM samples WHERE camera = ? LIMIT 1", [camera]).fetchone() is None

    return store.submit(none).result(_STORE_SECONDS)


def remove_here(paths: StatePaths, ids: Sequence[str]) -> int:
    """Remove samples while no daemon runs; returns how many there were.

    Raises:
        StateInUse: A daemon is running after all.
        SampleInUseError: An open round uses one of them.
        sqlite3.Error: The index failed; samples that it still lists are untouched.
    """
    with command_lock(paths):
        db = open_writer(paths)
        try:
            migrate(db)
            _check_unused(db, ids)
            return delete_samples(db, paths, ids)
        finally:
            db.close()
