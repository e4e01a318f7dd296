from __future__ import annotations

import json
from typing import Any

import pytest
from sqlite_utils import Database

from dance_ondevice.daemon.system.state import StatePaths


def sample(camera: str, seq: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"{camera}-{seq}",
        "camera": camera,
        "seq": seq,
        "captured_at": 1_700_000_000.0 + seq,
        "received_at": 1_700_000_000.5 + seq,
        "path": f"samples/{camera}/{seq}.jpg",
        "format": "jpg",
        "width": 160,
        "height": 120,
        "native_width": 320,
        "native_height": 240,
        "bytes": 4096,
        "digest": "d",
        "received_digest": "r",
        "score": 0.31,
        "quantile": 0.62,
        "scale": 0.5,
        "weight": 0.9,
        "reason": "more detail than 62 % of recent frames",
        "label_path": None,
        "label_source": None,
        "classes": None,
        "split": None,
        "rounds_used": 0,
        "origin": "stream",
        "uncertainty": None,
        "condition": None,
        "signature": None,
        "label_confidence": None,
        "taught_by": None,
        "arrival": None,
        "unreadable": None,
        **changes,
    }


@pytest.fixture(autouse=True)
def rows(database: Database) -> None:
    labelled = {"label_path": "x.png", "label_source": "wire", "classes": "[1, 3]", "split": "train"}
    database["samples"].insert_all(
        [sample("front", 1), sample("front", 2, **labelled), sample("rear", 3), sample("rear", 4, **labelled)]
    )
    database["rounds"].insert({"id": "r1", "started_at": 1.0, "outcome": "promoted"})
    database["rounds"].insert({"id": "r2", "started_at": 2.0, "outcome": None})
    database["round_samples"].insert_all(
        [
            {"round_id": "r1", "sample_id": "front-2", "role": "new"},
            {"round_id": "r2", "sample_id": "front-2", "role": "rehearsal"},
        ]
    )


@pytest.mark.parametrize(
    ("args", "ids"),
    [
        ([], ["rear-4", "rear-3", "front-2", "front-1"]),
        (["--limit", "2"], ["rear-4", "rear-3"]),
        (["--camera", "front"], ["front-2", "front-1"]),
        (["--labelled"], ["rear-4", "front-2"]),
        (["--unlabelled", "--camera", "rear"], ["rear-3"]),
        (["--camera", "' or 1 --"], []),
    ],
)
def test_samples_are_listed_newest_first(run_json, paths: StatePaths, args, ids):
    rows = run_json("samples", "list", "--state-dir", str(paths.root), *args)
    assert [row["id"] for row in rows] == ids


def test_the_json_has_every_column(run_json, paths: StatePaths):
    row = run_json("samples", "list", "--state-dir", str(paths.root), "--labelled")[0]
    assert row.keys() == sample("x", 0).keys()
    assert row["classes"] == [1, 3]


def test_the_table_says_how_many_there_are(run, paths: StatePaths):
    output = run("samples", "list", "--state-dir", str(paths.root), "--limit", "1").stdout
    assert "1 of 4" in output
    assert "rear-4" in output
    assert "4.0 KiB" in output
    told = run("samples", "list", "--state-dir", str(paths.root), "--limit", "1", "--json")
    assert len(json.loads(told.stdout)) == 1
    assert "1 of 4 samples; --limit 4 gives all" in told.stderr


def test_explain_tells_the_decision_and_the_rounds(run, run_json, paths: StatePaths):
    args = ("samples", "explain", "front-2", "--state-dir", str(paths.root))
    answer = run_json(*args)
    assert answer["reason"] == "more detail than 62 % of recent frames"
    assert [(r["round"], r["role"], r["outcome"]) for r in answer["rounds"]] == [
        ("r1", "new", "promoted"),
        ("r2", "rehearsal", None),
    ]
    output = run(*args).stdout
    for text in ("160x120 of 320x240", "62%", "r1 (new, promoted), r2 (rehearsal, running)", "1, 3"):
        assert text in output


def test_explain_names_condition_teacher_and_the_versions_that_know_it(
    run, run_json, paths: StatePaths, database: Database
):
    database["samples"].update(
        "front-2",
        {"condition": "dusk", "uncertainty": 0.25, "label_source": "teacher", "label_confidence": 0.93},
    )
    database["rounds"].insert_all(
        [
            {"id": "r3", "started_at": 3.0, "outcome": "promoted", "parent": "v0002", "candidate": "v0003"},
            {"id": "r4", "started_at": 4.0, "outcome": "rejected", "parent": "v0003", "candidate": "v0004"},
            {"id": "r5", "started_at": 5.0, "outcome": "promoted", "parent": "v0001", "candidate": "v0005"},
        ]
    )
    database["rounds"].update("r1", {"parent": "v0001", "candidate": "v0002"})
    database["round_samples"].insert({"round_id": "r5", "sample_id": "front-2", "role": "gate"})
    # v0002 was pruned: the chain from it to its descendants must hold all the same.
    database["versions"].insert_all(
        [
            {"version": "v0001", "status": "retired", "parent": None},
            {"version": "v0003", "status": "retired", "parent": "v0002", "round_id": "r3"},
            {"version": "v0004", "status": "rejected", "parent": "v0003", "round_id": "r4"},
            {"version": "v0005", "status": "live", "parent": "v0001", "round_id": "r5"},
        ]
    )
    args = ("samples", "explain", "front-2", "--state-dir", str(paths.root))
    told = run_json(*args)["versions"]
    assert [(v["version"], v["status"], v["direct"]) for v in told] == [
        ("v0002", "removed", True),
        ("v0003", "retired", False),
        ("v0004", "rejected", False),
    ]
    output = run(*args).stdout
    for text in ("dusk", "0.25", "teacher, mean confidence 0.93", "v0003 (retired, by its parent)"):
        assert text in output
    assert "v0005" not in output


def test_an_unknown_sample(run, paths: StatePaths):
    errors = run("samples", "explain", "nobody", "--state-dir", str(paths.root), code=1).stderr
    assert "no sample 'nobody'" in errors
