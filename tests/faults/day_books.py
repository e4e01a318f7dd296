"""What a day has left in a state folder that no daemon uses: store, ledger, rounds and versions, checked.

Each check reads with the project's own readers where there are any, and fails with what it found.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from day import CAMERA, LABEL_EVERY, QUOTA_BYTES, LongDay

from dance_ondevice.conditions import store as condition_store
from dance_ondevice.daemon.store import scan as sample_scan
from dance_ondevice.daemon.store.service import open_reader
from dance_ondevice.daemon.system.state import StatePaths, parse_sample_id
from dance_ondevice.daemon.versions import condition_file
from dance_ondevice.daemon.versions.versions import KEEP
from dance_ondevice.models import checkpoint

FINAL = {"promoted", "rejected", "rolled_back", "stopped", "failed"}
#: The newest so many labelled samples, at least, were never chosen to go.
NEWEST = 16

Row = dict[str, Any]


def rows_of(paths: StatePaths, sql: str) -> list[Row]:
    """The answer to a query."""
    with contextlib.closing(open_reader(paths)) as db:
        return list(db.query(sql))


def check_store(lived: LongDay) -> dict[str, int]:
    """Index and files agree one to one, and all that was promised is stored or was evicted, oldest first."""
    paths, day = lived.paths, lived.day
    found = sample_scan.scan(paths)
    assert not found.strays
    assert not found.unknown
    rows = {row["path"]: row for row in rows_of(paths, "SELECT * FROM samples")}
    assert rows.keys() == found.images.keys()
    for path, row in rows.items():
        image = found.images[path]
        assert (row["id"], row["seq"], row["camera"]) == (image.id, image.seq, CAMERA)
        assert row["label_path"] == image.label
        assert row["bytes"] == image.bytes + image.label_bytes
        assert (image.label is not None) == (image.seq % LABEL_EVERY == 0)
    (totals,) = rows_of(paths, "SELECT labelled, unlabelled, bytes FROM sample_totals")
    labelled = sum(row["label_path"] is not None for row in rows.values())
    assert (totals["labelled"], totals["unlabelled"]) == (labelled, len(rows) - labelled)
    assert totals["bytes"] == sum(row["bytes"] for row in rows.values()) <= QUOTA_BYTES

    stored = {row["id"] for row in rows.values()}
    kept = day.promises.kept.keys()
    # A frame that nobody answered may have been stored all the same, and dropped when it was sent again.
    assert stored - kept <= day.unanswered
    evicted = (kept | day.seen) - stored
    _check_oldest_went(kept, stored)
    return {"stored": len(stored), "evicted": len(evicted), "unlogged": lived.unlogged}


def _check_oldest_went(kept: Iterable[str], stored: set[str]) -> None:
    """A sample that was lost rather than evicted leaves a hole among newer ones."""
    by_label: dict[bool, list[tuple[int, bool]]] = {True: [], False: []}
    for identifier in kept:
        numbers = parse_sample_id(CAMERA, identifier)
        assert numbers is not None
        by_label[numbers[1] % LABEL_EVERY == 0].append((numbers[1], identifier in stored))
    # Of labelled ones those held out, scarce or in a running round outlive younger ones. Unlabelled
    # ones go by shares of lights and by what they repeat, in no order that their numbers show.
    assert all(there for _, there in sorted(by_label[True])[-NEWEST:])


def check_rounds(lived: LongDay) -> Counter[str]:
    """Every round that began has ended for good, alone, and paid what the ledger says."""
    paths = lived.paths
    rounds = rows_of(paths, "SELECT * FROM rounds ORDER BY started_at, id")
    outcomes = Counter(row["outcome"] for row in rounds)
    assert outcomes.keys() <= FINAL, outcomes
    begun = lived.logged(r"round started round=(\S+)")
    assert len(begun) == len(set(begun))
    assert {row["id"] for row in rounds} == set(begun) == {path.name for path in paths.rounds.glob("2*")}
    _check_one_after_the_other(
        [(row["id"], row["started_at"], row["finished_at"]) for row in rounds], what="rounds"
    )
    by_id = {row["id"]: row for row in rounds}
    for killed in lived.killed_rounds:
        assert by_id[killed]["outcome"] == "failed"
        assert "killed by signal 9" in by_id[killed]["reasons"]
    for row in rounds:
        assert json.loads(row["reasons"]), row["id"]
        left = {path.name for path in (paths.rounds / row["id"]).iterdir()}
        assert not left & {"checkpoint", "candidate", condition_file.CONDITIONS_FILE}, (row["id"], left)
    _check_nothing_judged_was_learnt(paths)
    return outcomes


def _check_one_after_the_other(spans: Sequence[tuple[Any, float, float]], *, what: str) -> None:
    for (first, begin, end), (second, after, _) in itertools.pairwise(spans):
        assert begin <= end <= after, f"{what} {first} and {second} overlap"


def _check_nothing_judged_was_learnt(paths: StatePaths) -> None:
    """No sample that ever held a model to account has taught one."""
    roles: dict[str, set[str]] = defaultdict(set)
    for row in rows_of(paths, "SELECT DISTINCT sample_id, role = 'gate' AS gate FROM round_samples"):
        roles["gate" if row["gate"] else "taught"].add(row["sample_id"])
    assert roles["taught"]
    assert roles["gate"]
    assert not roles["taught"] & roles["gate"]


def check_ledger(lived: LongDay) -> dict[str, float]:
    """Each reservation was settled once; rounds and budget say what the entries say."""
    paths = lived.paths
    entries = rows_of(paths, "SELECT * FROM ledger ORDER BY id")
    assert not [entry for entry in entries if entry["closed_at"] is None]
    _check_one_after_the_other(
        [(entry["id"], entry["opened_at"], entry["closed_at"]) for entry in entries], what="entries"
    )
    rounds = {row["id"]: row for row in rows_of(paths, "SELECT * FROM rounds")}
    parts: dict[str, list[Row]] = defaultdict(list)
    for entry in entries:
        assert entry["settled_joules"] > 0
        assert (entry["attributed_joules"] or 0.0) <= entry["settled_joules"]
        if entry["method"] == "reserved":
            assert entry["settled_joules"] == entry["reserved_joules"]
        parts[entry["round_id"]].append(entry)
    resumed = Counter(lived.logged(r"round resumed round=(\S+)"))
    for account, found in parts.items():
        if account.startswith("probation-"):
            continue
        assert len(found) <= 1 + resumed[account], f"{account} was paid for more often than it ran"
        row = rounds[account]
        assert math.isclose(row["gross_joules"] or 0.0, _sum(found, "settled_joules"), rel_tol=1e-9), row
        assert math.isclose(row["joules"] or 0.0, _sum(found, "attributed_joules"), rel_tol=1e-9), row
    for row in rounds.values():
        assert row["id"] in parts or not (row["gross_joules"] or row["steps"]), row
    crashed = len(lived.logged(r"reservation settled in full after a crash round=(\S+)"))
    assert crashed == sum(entry["method"] == "reserved" for entry in entries) <= lived.ends["SIGKILL"]
    spent = _sum(entries, "settled_joules")
    (budget,) = rows_of(paths, "SELECT day FROM budget")
    account = json.loads(budget["day"])
    assert account["reserved"] == 0.0
    assert math.isclose(sum(joules for _, joules in account["spent"]), spent, rel_tol=1e-9)
    return {"entries": len(entries), "crashed": crashed, "joules": round(spent, 1)}


def _sum(entries: Iterable[Row], column: str) -> float:
    return sum(entry[column] or 0.0 for entry in entries)


def check_versions(lived: LongDay) -> Counter[str]:
    """Every version loads, has its row and its round, and descends from one that is known; one is live."""
    paths = lived.paths
    table = {row["version"]: row for row in rows_of(paths, "SELECT * FROM versions")}
    rounds = {row["id"]: row for row in rows_of(paths, "SELECT * FROM rounds")}
    assert table.keys() == {path.name for path in paths.models.iterdir() if path.is_dir()}
    statuses = Counter(row["status"] for row in table.values())
    pointer = json.loads(paths.live_file.read_bytes())
    assert [name for name, row in table.items() if row["status"] == "live"] == [pointer["version"]]
    assert {pointer["previous"], pointer["frozen"]} <= table.keys()
    named = {row["candidate"] for row in rounds.values()} | {pointer["frozen"]}
    for version, row in table.items():
        _check_version(paths.models / version, row)
        assert version in named, f"no round names {version} ({row['status']})"
        assert row["parent"] in named or version == pointer["frozen"], f"{version}: parent {row['parent']}"
        if row["round_id"] is not None:
            born = rounds[row["round_id"]]
            assert (born["candidate"], born["parent"]) == (version, row["parent"])
            assert born["outcome"] == _OUTCOME_OF[row["status"]], (version, row["status"], born["outcome"])
    _check_promoted(rounds.values(), table)
    return statuses


_OUTCOME_OF: Mapping[str, str] = {
    "live": "promoted",
    "retired": "promoted",
    "rejected": "rejected",
    "rolled_back": "rolled_back",
    # Passed the gate, and never went live.
    "candidate": "failed",
}


def _check_version(folder: Path, row: Row) -> None:
    """The project's loader rebuilds it and compares the hash; what it knows of conditions reads, too."""
    _, card = checkpoint.load(folder)
    assert (card.version, card.parent) == (row["version"], row["parent"])
    assert (card.macs, card.parameters) == (row["macs"], row["parameters"])
    assert json.loads(row["card"]) == json.loads((folder / "card.json").read_bytes())
    sets, _ = condition_store.load_conditions(folder)
    assert sets.keys() >= condition_file.read(folder).live
    names = {path.name for path in folder.iterdir()}
    assert names <= {"model.safetensors", "card.json", condition_file.CONDITIONS_FILE}, names


def _check_promoted(rounds: Iterable[Row], table: Mapping[str, Row]) -> None:
    """What was promoted is there, but for the oldest of more than are kept."""
    versions = [row["candidate"] for row in rounds if row["outcome"] == "promoted"]
    assert None not in versions
    assert len(versions) == len(set(versions))
    # The first version is never pruned, nor are the live one and the one before it.
    served = sorted(name for name, row in table.items() if row["status"] in ("retired", "live"))[1:]
    for version in versions:
        pruned = len(served) >= KEEP["retired"] + 1 and version < served[0]
        assert version in table or pruned, f"{version} was promoted and is gone"


#: The index, and what those who only read it leave beside it.
_INDEX = {"dance.db", "dance.db-wal", "dance.db-shm"}


def check_leftovers(state: Path) -> None:
    """Nothing half-written anywhere, and no file of a daemon that runs."""
    left = [path for path in state.rglob("*") if path.name.endswith((".tmp", ".part"))]
    assert not left, left
    names = {path.name for path in state.iterdir()}
    expected = {"samples", "models", "rounds", "lock", "paused", "classes.json", "console.token", "asked"}
    assert names - _INDEX <= expected, names
