"""Facts that files hold beyond the images: the samples that rounds have used, and the model versions."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import read_regular

log = logging.getLogger(__name__)


class Roles:
    """The role that past rounds used each sample in, from ``rounds/<id>/job.json`` and older rounds' remains.

    Attributes:
        learnt: Number of rounds that learnt from each sample.
        gate: Samples that were held out.
    """

    #: Under ``rounds``: of the rounds whose folders are gone.
    FILE = "roles.json"

    def __init__(self, files: Iterable[Path]) -> None:
        """Read files; one that is missing or damaged says nothing."""
        self.learnt: Counter[str] = Counter()
        self.gate: set[str] = set()
        for file in files:
            if not file.exists():
                continue
            found = _read_object(file)
            if file.name == self.FILE:
                learnt, gate = _object(found.get("learnt")), found.get("gate")
                self.learnt.update({str(name): n for name, n in learnt.items() if isinstance(n, int)})
                self.gate.update(str(each) for each in (gate if isinstance(gate, list) else ()))
                continue
            self.learnt.update(_ids(found, "train"))
            self.learnt.update(_ids(found, "rehearsal"))
            self.gate.update(_ids(found, "gate"))

    @classmethod
    def of(cls, paths: StatePaths) -> Roles:
        """What all rounds of a state folder say."""
        return cls([paths.rounds / cls.FILE, *sorted(paths.rounds.glob("*/job.json"))])

    def split(self, sample_id: str) -> str:
        """``gate`` for a sample that was held out and never learnt from, else ``train``.

        An unknown sample may have been learnt from, so it is never held out.
        """
        return "gate" if sample_id in self.gate and sample_id not in self.learnt else "train"

    def rounds_used(self, sample_id: str) -> int:
        """Number of rounds that learnt from the sample."""
        return self.learnt[sample_id]


def restore_versions(db: Database, paths: StatePaths) -> int:
    """Make the table of versions match the folder ``models``; ``live.json`` alone decides which one is live.

    Returns:
        Number of versions that had no row.
    """
    live = _read_object(paths.live_file).get("version") if paths.live_file.exists() else None
    known = {row[0] for row in db.execute("SELECT version FROM versions")}
    folders = {
        file.parent.name: file
        for file in sorted(paths.models.glob("*/card.json"))
        if not file.parent.name.startswith(".")
    }
    added = 0
    with db.atomic():
        for version in known - folders.keys():
            db.execute("DELETE FROM versions WHERE version = ?", [version])
        for version, file in folders.items():
            if version not in known and (card := _read_object(file)):
                added += _add_version(db, version, card)
        if isinstance(live, str) and live in folders:
            db.execute(
                "UPDATE versions SET status = 'retired' WHERE status = 'live' AND version != ?", [live]
            )
            db.execute("UPDATE versions SET status = 'live' WHERE version = ?", [live])
    return added


def _add_version(db: Database, version: str, card: Mapping[str, Any]) -> int:
    gate, training = _object(card.get("gate")), _object(card.get("training"))
    row = {
        "version": version,
        "parent": card.get("parent"),
        "created_at": card.get("created_at"),
        "status": "rejected" if gate.get("outcome") == "rejected" else "retired",
        "architecture": card.get("architecture") or card.get("factory"),
        "macs": card.get("macs"),
        "parameters": card.get("parameters"),
        "round_id": training.get("round"),
        "miou_gate": gate.get("miou_after"),
        "card": json.dumps(card),
    }
    columns = ", ".join(row)
    try:
        db.execute(f"INSERT INTO versions ({columns}) VALUES ({', '.join(':' + name for name in row)})", row)
    except (sqlite3.Error, OverflowError) as error:
        log.warning("version not indexed version=%s error=%s", version, error)
        return 0
    return 1


def _read_object(file: Path) -> dict[str, Any]:
    try:
        return decode(read_regular(file), dict[str, Any])
    except (OSError, DocumentError) as error:
        log.warning("file not readable path=%s error=%s", file, error)
        return {}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _ids(job: Mapping[str, Any], key: str) -> Iterator[str]:
    entries = job.get(key)
    for entry in entries if isinstance(entries, list) else ():
        identifier = _object(entry).get("id")
        if isinstance(identifier, str):
            yield identifier
