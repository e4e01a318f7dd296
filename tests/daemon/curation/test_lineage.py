from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlite_utils import Database

from dance_ondevice.daemon.curation.lineage import versions_knowing
from dance_ondevice.daemon.store.schema import migrate


@pytest.fixture
def db() -> Iterator[Database]:
    made = Database(memory=True)
    migrate(made)
    yield made
    made.close()


def born(
    db: Database, version: str, parent: str | None, samples: dict[str, str], *, pruned: bool = False
) -> None:
    round_id = f"r-{version}"
    db["rounds"].insert(
        {"id": round_id, "started_at": 1.0, "outcome": "promoted", "parent": parent, "candidate": version}
    )
    db["round_samples"].insert_all(
        [{"round_id": round_id, "sample_id": sample, "role": role} for sample, role in samples.items()]
    )
    if not pruned:
        db["versions"].insert(
            {"version": version, "parent": parent, "status": "retired", "round_id": round_id}
        )


def test_training_is_passed_on_and_judging_is_not(db: Database) -> None:
    db["versions"].insert({"version": "v1", "status": "retired"})
    born(db, "v2", "v1", {"a": "new", "b": "gate"})
    born(db, "v3", "v2", {"c": "rehearsal"}, pruned=True)
    born(db, "v4", "v3", {"b": "new"})
    born(db, "v5", "v1", {"a": "gate"})
    known = {each: [k.version for k in versions_knowing(db, [each])] for each in "abcd"}
    assert known == {"a": ["v2", "v3", "v4"], "b": ["v4"], "c": ["v3", "v4"], "d": []}
    assert {(k.version, k.direct) for k in versions_knowing(db, ["a"])} == {
        ("v2", True), ("v3", False), ("v4", False),
    }  # fmt: skip
    assert next(k.status for k in versions_knowing(db, ["c"]) if k.version == "v3") == "removed"


def test_many_samples_in_one_question(db: Database) -> None:
    born(db, "v2", None, {"x": "new"})
    born(db, "v3", "v2", {"y": "new"})
    asked = [f"none-{i}" for i in range(1200)]
    assert [(k.version, k.direct) for k in versions_knowing(db, [*asked, "y", "x"])] == [
        ("v2", True),
        ("v3", True),
    ]
