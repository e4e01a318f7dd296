"""The present daemon on a state folder that the code of an earlier version wrote (tests/states)."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_process import Camera, Daemon

pytestmark = pytest.mark.slow

STATES = Path(__file__).resolve().parents[2] / "states"


@pytest.fixture(params=sorted(folder.name for folder in STATES.glob("[0-9]*")))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Puts a copy of an old state into place, and tells what is in it."""
    state = tmp_path / "state"
    shutil.copytree(STATES / request.param, state)
    facts: dict[str, Any] = json.loads((state / "made.json").read_bytes())
    (state / "made.json").unlink()
    # An upgrade leaves the folder where it is; this copy moves it, so the paths in jobs are written anew.
    for job in (state / "rounds").glob("*/job.json"):
        job.write_text(job.read_text().replace(facts["state_dir"], str(state)))
    return facts


@pytest.fixture
def daemon(made: dict[str, Any], tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    text = daemon.config.read_text().replace("[model]\n", '[model]\nfactory = "tiny_network:make"\n')
    daemon.config.write_text(text)
    yield daemon
    daemon.stop(signal.SIGKILL)


def rows(state: Path, query: str) -> list[tuple[Any, ...]]:
    """What a query finds in the index of a state folder."""
    with contextlib.closing(sqlite3.connect(state / "dance.db")) as database:
        return database.execute(query).fetchall()


def files(state: Path) -> dict[str, bytes]:
    """Samples, labels and versions: every file that an upgrade must leave as it is."""
    kept = [
        path for folder in ("samples", "models/v0001", "models/v0002") for path in (state / folder).rglob("*")
    ]
    return {str(path.relative_to(state)): path.read_bytes() for path in kept if path.is_file()}


def test_a_state_of_an_earlier_version_is_opened_and_its_round_finished(
    daemon: Daemon, made: dict[str, Any]
) -> None:
    state = daemon.state
    every_sample = "select id, path, label_path, label_source, digest, score from samples order by id"
    every_closed_entry = "select * from ledger where settled_joules is not null order by id"
    before = {"samples": rows(state, every_sample), "ledger": rows(state, every_closed_entry)}
    paid = rows(state, "select day, workload, joules from energy")
    untouched = files(state)
    assert {row[0] for row in before["samples"]} == set(made["kept"])
    assert {row[2] is None for row in before["samples"]} == {True, False}
    assert (state / "rounds" / made["interrupted_round"] / "checkpoint" / "state.json").exists()
    assert rows(state, "select count(*) from ledger where settled_joules is null") == [(1,)]

    daemon.start(PYTHONPATH=str(STATES))
    listed = json.loads(daemon.run_cli("samples", "list", "--json").stdout)
    assert {sample["id"] for sample in listed} == set(made["kept"])
    known = {one["version"]: one for one in json.loads(daemon.run_cli("models", "list", "--json").stdout)}
    assert {"v0001", "v0002"} <= set(known)

    # The interrupted round goes on from its checkpoint to its verdict, against the version that was live.
    daemon.wait_until(lambda status: status["rounds"]["count"] and not status["rounds"]["running"])
    live = json.loads((state / "models" / "live.json").read_bytes())
    assert made["live"] in {live["version"], live["previous"]}
    assert f"round resumed round={made['interrupted_round']}" in daemon.log.read_text()
    ((outcome, reasons, steps, parent),) = rows(
        state,
        f"select outcome, reasons, steps, parent from rounds where id = '{made['interrupted_round']}'",
    )
    assert outcome in {"promoted", "rejected"}, reasons
    assert json.loads(reasons)
    assert steps > 20
    assert parent == made["live"]

    # A frame is taken as before, with its label.
    with contextlib.closing(Camera(daemon.facts["ingest"][0])) as camera:
        (fresh,) = {reply["id"] for reply in [camera.send(1000)] if reply["kept"]}
    rolled = daemon.run_cli("models", "promote", made["live"])
    assert rolled.returncode == 0, rolled.stderr
    assert daemon.ask("status")["version"] == made["live"]
    assert daemon.stop() == 0

    after = {row[0]: row for row in rows(state, every_sample)}
    assert [after[row[0]] for row in before["samples"]] == before["samples"]
    assert set(after) == {*made["kept"], fresh}
    assert after[fresh][2]
    assert {path: data for path, data in files(state).items() if path in untouched} == untouched
    # What was settled stays as it was, what was open is settled now, and no joule is given back.
    assert rows(state, every_closed_entry)[: len(before["ledger"])] == before["ledger"]
    assert rows(state, "select count(*) from ledger where settled_joules is null") == [(0,)]
    now = {
        (day, workload): joules
        for day, workload, joules in rows(state, "select day, workload, joules from energy")
    }
    assert all(now[day, workload] >= joules for day, workload, joules in paid)
    assert daemon.log.read_text().count("Traceback") == 0
