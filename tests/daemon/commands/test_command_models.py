from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from dance_ondevice.daemon.commands import rounds
from dance_ondevice.daemon.system.state import StatePaths

CARD: dict[str, Any] = {
    "version": "v0002",
    "architecture": "fastscnn",
    "macs": 5,
    "channels": {"a": [3, 4, 1]},
}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_POLL_SECONDS", 0.0)


@pytest.fixture
def versions(paths: StatePaths, database: Database) -> None:
    for number, status in ((1, "retired"), (2, "live")):
        name = f"v{number:04d}"
        database["versions"].insert(
            {
                "version": name,
                "parent": None,
                "created_at": 1_700_000_000.0 + number,
                "status": status,
                "architecture": "fastscnn",
                "macs": 1000,
                "parameters": 10,
                "round_id": None,
                "miou_gate": 0.5,
                "card": "{}",
            }
        )
        folder = paths.models / name
        folder.mkdir()
        (folder / "card.json").write_text(json.dumps({**CARD, "version": name}))
    paths.live_file.write_text('{"version": "v0002"}')


@pytest.mark.usefixtures("versions")
def test_the_versions_are_listed(run, run_json, paths: StatePaths):
    rows = run_json("models", "list", "--state-dir", str(paths.root))
    assert [(row["version"], row["status"]) for row in rows] == [("v0001", "retired"), ("v0002", "live")]
    assert rows[0]["macs"] == 1000
    assert "card" not in rows[0]
    output = run("models", "list", "--state-dir", str(paths.root)).stdout
    assert "v0001" in output
    assert "retired" in output


@pytest.mark.usefixtures("versions")
def test_show_is_of_the_live_version(run, run_json, paths: StatePaths):
    args = ("models", "show", "--state-dir", str(paths.root))
    assert run_json(*args) == CARD
    assert run_json(*args, "v0001")["version"] == "v0001"
    output = run(*args).stdout
    assert "fastscnn" in output
    assert "channels" not in output


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize("name", ["v9", "../models/v0001", ""])
def test_an_unknown_version_names_the_known(run, paths: StatePaths, name: str):
    errors = run("models", "show", name, "--state-dir", str(paths.root), code=1).stderr
    assert "v0001, v0002" in errors


@pytest.mark.usefixtures("versions")
def test_a_broken_card_is_told(run, paths: StatePaths):
    (paths.models / "v0001" / "card.json").write_bytes(b"{")
    assert "cannot be read" in run("models", "show", "v0001", "--state-dir", str(paths.root), code=1).stderr


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    "damage", [{"classes": -1}, {"created_at": []}, {"macs": "x"}, {"training": "x"}, {"gate": [1]}]
)
def test_a_card_with_a_value_of_another_kind_is_told(
    run, run_json, paths: StatePaths, damage: dict[str, Any]
):
    (paths.models / "v0001" / "card.json").write_text(json.dumps({**CARD, "version": "v0001", **damage}))
    state = ("--state-dir", str(paths.root))
    assert "the card of v0001 is damaged" in run("models", "show", "v0001", *state, code=1).stderr
    assert run_json("models", "show", "v0001", *state)["version"] == "v0001"


@pytest.mark.usefixtures("versions")
def test_engines_are_those_of_the_live_version(run, run_json, paths: StatePaths):
    args = ("models", "engines", "--state-dir", str(paths.root))
    assert "no engines were measured for v0002" in run(*args, code=1).stderr
    rows = [
        {"engine": "torch", "cpu_ms": 20.0, "agreement": 1.0},
        {"engine": "onnxruntime", "cpu_ms": 9.0, "agreement": 0.9991},
        {"engine": "openvino", "note": "refuses the model"},
    ]
    table = {"model": "m", "board": "another board", "size": [48, 64], "engines": rows}
    (paths.models / "v0002" / "engines.json").write_text(json.dumps(table))
    found = run_json(*args)
    assert (found["version"], found["this_board"]) == ("v0002", False)
    usable = {row["engine"]: row["usable"] for row in found["engines"]}
    assert usable == {"torch": True, "onnxruntime": True, "openvino": False}
    output = run(*args).stdout
    assert "99.91%" in output
    assert "refuses the model" in output
    (paths.models / "v0002" / "engines.json").write_text("{")
    assert "cannot be read" in run(*args, code=1).stderr


def test_show_without_a_live_version(run, paths: StatePaths):
    assert "no live version yet" in run("models", "show", "--state-dir", str(paths.root), code=1).stderr


def test_list_without_a_database(run, paths: StatePaths):
    errors = run("models", "list", "--state-dir", str(paths.root), code=1).stderr
    assert str(paths.database) in errors
    assert "--state-dir" in errors


def test_list_of_a_broken_database(run, paths: StatePaths):
    paths.database.write_bytes(b"no database" * 100)
    assert "doctor" in run("models", "list", "--state-dir", str(paths.root), code=1).stderr


DONE = {"state": "done", "outcome": "live", "version": "v0001", "previous": "v0002"}


@pytest.mark.parametrize(
    ("args", "sent"),
    [
        (["promote", "v0001"], {"version": "v0001"}),
        (["rollback"], {"to": None}),
        (["rollback", "--to", "v0001"], {"to": "v0001"}),
    ],
)
def test_switching_waits_for_the_daemon(run, serve, paths: StatePaths, args: list[str], sent: object):
    asked: list[object] = []
    answers = iter([{"state": "running"}] + [DONE] * 2)

    def switch(query: dict[str, object]) -> object:
        asked.append(query)
        return {"request": 3}

    serve({args[0]: switch, "train_status": lambda _: next(answers)})
    where = ("--state-dir", str(paths.root))
    assert json.loads(run("models", *args, *where, "--json").stdout) == {
        "outcome": "live",
        "version": "v0001",
        "previous": "v0002",
    }
    said = run("models", *args, *where).stdout
    assert said == "live: v0001 (before it v0002, to which a rollback would go now)\n"
    assert asked == [sent, sent]


def test_a_switch_that_fails_says_why(run, serve, paths: StatePaths):
    end = {"state": "done", "outcome": "failed", "reasons": ["no readable version 'v7'"]}
    serve({"promote": lambda _: {"request": 3}, "train_status": lambda _: end})
    assert (
        "no readable version 'v7'"
        in run("models", "promote", "v7", "--state-dir", str(paths.root), code=1).stderr
    )


CERTIFICATE: dict[str, Any] = {
    "version": "v0002",
    "parent": "v0001",
    "created_at": 1_700_000_000.0,
    "architecture": "fastscnn",
    "classes": ["sky", "road"],
    "macs": 900,
    "unslimmed_macs": 1000,
    "parameters": 10,
    "channels": {"a": [3, 4, 1]},
    "training": {"round": "r7", "seed": 3, "steps": 40},
    "samples": {
        "new": 12,
        "rehearsal": 4,
        "gate": 9,
        "label_sources": {"frame": 10, "teacher": 6},
        "conditions": {"dusk": 16},
    },
    "slimming": {"macs_before": 1000, "macs_after": 900, "parameters_before": 12, "parameters_after": 10},
    "energy": {"joules": 120.0, "gross_joules": 150.0, "method": "modelled"},
    "gate": {
        "outcome": "promoted",
        "reasons": ["it is better"],
        "miou_before": 0.4,
        "miou_after": 0.5,
        "miou_frozen": 0.3,
        "iou_per_class_before": [0.8, None],
        "iou_per_class": [0.9, None],
        "confidence": 0.9,
        "live_ms": 20.0,
        "candidate_ms": 18.0,
        "table": {
            "live": 0.4,
            "candidate": 0.5,
            "gain": 0.1,
            "lower": 0.0625,
            "upper": 0.125,
            "samples": 9,
            "units": 5,
            "unit": "block",
            "classes": [{"class": "sky", "pixels": 9000, "change": 0.1, "lower": 0.05, "upper": 0.15}],
            "groups": [
                {
                    "name": "condition dusk",
                    "live": 0.2,
                    "candidate": 0.45,
                    "gain": 0.25,
                    "lower": 0.2,
                    "upper": 0.3,
                    "samples": 5,
                    "units": 3,
                    "unit": "block",
                }
            ],
        },
    },
    "probation": {"outcome": "passed", "reason": "mIoU 0.500 before, 0.510 now"},
}


@pytest.mark.usefixtures("versions")
def test_show_is_a_birth_certificate(run, run_json, paths: StatePaths):
    (paths.models / "v0002" / "card.json").write_text(json.dumps(CERTIFICATE))
    args = ("models", "show", "--state-dir", str(paths.root))
    assert run_json(*args) == CERTIFICATE
    output = run(*args).stdout
    for text in (
        "v0001",
        "900 (90% of the unslimmed network)",
        "MACs 1,000 -> 900 in this round",
        "12 new, 4 rehearsal, 9 gate",
        "10 frame, 6 teacher",
        "16 dusk",
        "120 above idle, 150 gross (modelled)",
        "0.4 -> 0.5, by +0.1000, between +0.0625 and +0.1250 (each bound at 90%, over 5 blocks)",
        "20 -> 18",
        "it is better",
        "passed: mIoU 0.500 before",
        "Gate, by class",
        "9000",
        "condition dusk",
    ):
        assert text in output, text
    assert "channels" not in output


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        ({"outcome": "live", "version": "v0003"}, 0, "live: v0003"),
        ({"outcome": "rejected", "version": "v0003", "reasons": ["worse"]}, 1, "promote v0003"),
        ({"outcome": "failed", "reasons": ["for other classes"]}, 1, "for other classes"),
    ],
)
def test_an_import_asks_the_daemon_and_tells_what_became_of_it(  # noqa: PLR0917
    run, serve, paths: StatePaths, tmp_path, monkeypatch, end: dict[str, Any], code: int, words: str
):
    asked: list[dict[str, Any]] = []

    def import_model(query: dict[str, Any]) -> dict[str, int]:
        asked.append(query)
        return {"request": 3}

    serve({"import_model": import_model, "train_status": lambda _: {"state": "done", **end}})
    monkeypatch.chdir(tmp_path)
    assert (
        "bass is not there" in run("models", "import", "bass", "--state-dir", str(paths.root), code=1).stderr
    )
    (tmp_path / "base").mkdir()
    done = run("models", "import", "base", "--state-dir", str(paths.root), code=code)
    assert words in done.stdout + done.stderr
    assert asked == [{"folder": str(tmp_path / "base")}]  # the daemon has a folder of its own to start from


@pytest.mark.usefixtures("versions")
def test_without_a_daemon_a_model_that_has_learnt_is_not_replaced(run, paths: StatePaths, tmp_path):
    errors = run("models", "import", str(tmp_path), "--state-dir", str(paths.root), code=1).stderr
    assert "v0002 has learnt" in errors
    assert f"dance-ondevice run --state-dir {paths.root}" in errors
    assert json.loads(paths.live_file.read_bytes()) == {"version": "v0002"}


def test_a_model_of_another_program_or_order_of_classes_says_the_way_in(run, paths: StatePaths, tmp_path):
    (paths.root / "classes.json").write_text('["sky", "road"]')
    foreign, turned = tmp_path / "segformer", tmp_path / "turned"
    for folder in (foreign, turned):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"x")
    (foreign / "config.json").write_text("{}")
    (turned / "card.json").write_text('{"classes": ["Road", "sky"]}')
    where = ("--state-dir", str(paths.root))
    told = run("models", "import", str(foreign), *where, code=1).stderr
    assert "no card.json in it (it holds config.json, model.safetensors)" in told
    assert "pretrain --init" in told
    file = foreign / "model.safetensors"
    assert "no card.json in it" in run("models", "import", str(file), *where, code=1).stderr
    assert "the same in another order" in run("models", "import", str(turned), *where, code=1).stderr


def test_classes_are_listed_and_appended(run, run_json, paths: StatePaths):
    (paths.root / "classes.json").write_text('["sky", "road"]')
    where = ("--state-dir", str(paths.root))
    assert run_json("classes", "list", *where) == ["sky", "road"]
    output = run("classes", "append", "tram", *where).stdout
    assert "tram is class 2" in output
    assert 'classes = ["sky", "road", "tram"]' in output
    assert run_json("classes", "list", *where) == ["sky", "road", "tram"]
    assert "give another name" in run("classes", "append", "tram", *where, code=1).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask another user's service")
def test_a_model_of_roots_is_put_where_the_service_can_read_it(
    run: Any, serve: Any, paths: StatePaths, tmp_path: Path
) -> None:
    home, seen = tmp_path / "home" / "base", {}
    home.mkdir(parents=True)
    for name in ("card.json", "model.safetensors"):
        (home / name).write_text(name)

    def import_model(query: dict[str, Any]) -> dict[str, int]:
        folder = Path(query["folder"])
        seen.update({file.name: (file.read_text(), file.stat().st_uid) for file in folder.iterdir()})
        assert (folder.name, folder.stat().st_uid) == ("base", 61234)
        assert folder.is_relative_to(paths.root)
        return {"request": 1}

    end = {"state": "done", "outcome": "live", "version": "v0002", "reasons": []}
    serve({"import_model": import_model, "train_status": lambda _: end})
    os.chown(paths.root, 61234, 61234)
    killed, running = paths.root / ".incoming-killed", paths.root / ".incoming-running"
    for folder in (killed / "base", running):
        folder.mkdir(parents=True)
    os.utime(killed, (0, 0))
    assert "live: v0002" in run("models", "import", str(home), "--state-dir", str(paths.root)).stdout
    assert seen == {name: (name, 61234) for name in ("card.json", "model.safetensors")}
    assert list(paths.root.glob(".incoming-*")) == [running], "what a killed command left is gone"


def test_classes_that_this_user_may_not_read_are_not_those_of_the_configuration(
    run: Any, paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("dance_ondevice.daemon.commands.models.classes.read_regular", refuse)
    assert "sudo" in run("classes", "list", "--state-dir", str(paths.root), code=1).stderr
