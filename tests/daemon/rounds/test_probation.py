"""Versions on probation: real models, real frames, the real look at them in a process of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from round_rig import CONFIG, NO_SAMPLES, Rig
from store_fixtures import running_store
from torch import nn

from dance_ondevice.daemon.children.process import TrainerProcess
from dance_ondevice.daemon.config.sections import Energy, Promotion
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds.probation import Probation
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.models import checkpoint

pytestmark = pytest.mark.usefixtures("first_models_at_hand")

ON_PROBATION = msgspec.structs.replace(CONFIG, promotion=Promotion(probation_samples=8))
BEFORE = 1_600_000_000.0  # all frames of the street came after it


LENIENT = msgspec.structs.replace(
    ON_PROBATION, promotion=msgspec.structs.replace(CONFIG.promotion, probation_samples=8)
)


@pytest.fixture(scope="module")
def learnt(
    tmp_path_factory: pytest.TempPathFactory,
    written_once: Callable[..., None],
    add_street: Callable[..., list[str]],
) -> Path:
    """A state folder whose live version sees something: it took a round to get there.

    The round takes the usual number of steps, since it runs before any test has them cut.
    """
    paths = StatePaths(tmp_path_factory.mktemp("learnt"))
    for folder in (paths.samples, paths.models, paths.rounds):
        folder.mkdir()
    with pytest.MonkeyPatch.context() as patched, running_store(paths) as store:
        patched.setattr(first_model, "_write_fresh", written_once)
        add_street(store, 24)
        rig = Rig(paths, store, LENIENT)
        outcome = rig.round()
        assert outcome.outcome == "promoted", outcome.reasons
        rig.procedure.probation.end()
    return paths.root


@pytest.fixture
def rig(learnt: Path, tmp_path: Path) -> Iterator[Rig]:
    paths = StatePaths(tmp_path / "learnt")
    shutil.copytree(learnt, paths.root)
    with running_store(paths) as store:
        yield Rig(paths, store, LENIENT)


@pytest.fixture
def trained(rig: Rig) -> str:
    """The live version."""
    return live(rig)[0]


def copy_of(rig: Rig, version: str, *, spoilt: bool) -> str:
    """Adopt a copy of a version; a spoilt one takes every class for the next."""
    folder = rig.paths.rounds / "copy"
    shutil.copytree(rig.versions.directory(version), folder)
    model, card = checkpoint.load(folder)
    if spoilt:
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d) and layer.out_channels == len(card.classes):
                layer.weight.data = layer.weight.data.roll(1, 0)
                if layer.bias is not None:
                    layer.bias.data = layer.bias.data.roll(1, 0)
    checkpoint.save(folder, model, card)
    return rig.versions.adopt(folder, status="candidate", round_id="r9", changes={"parent": version})


def promote(rig: Rig, version: str, before: str) -> None:
    """As a round does it; frames count from long ago on."""
    rig.store.submit(
        lambda db: round_record.open_round(
            db,
            {"id": "r9", "started_at": 1.0, "outcome": "promoted", "reasons": '["better"]'},
            NO_SAMPLES,
        )
    ).result()
    rig.procedure.probation.begin(version, before, "r9")
    rig.procedure.switch(version, reason="test")
    state = json.loads((rig.paths.models / "probation.json").read_bytes())
    (rig.paths.models / "probation.json").write_text(json.dumps({**state, "after": 0}))


def live(rig: Rig) -> tuple[str, str | None]:
    pointer = rig.versions.pointer()
    assert pointer is not None
    return pointer.version, pointer.previous


@pytest.mark.slow
def test_a_look_that_a_stop_cuts_short_decides_nothing_and_leaves_with_the_daemon(
    rig: Rig, trained: str, add_street: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = copy_of(rig, trained, spoilt=True)
    promote(rig, spoilt, trained)
    rig.store.submit(lambda db: db.execute("update samples set rounds_used = 1")).result()
    add_street(rig.store, 8, start=200)
    asked: list[bool] = []
    really = TrainerProcess.ask_to_leave

    def ask(process: TrainerProcess, *, daemon_stops: bool = False) -> None:
        asked.append(daemon_stops)
        really(process, daemon_stops=daemon_stops)

    monkeypatch.setattr(TrainerProcess, "ask_to_leave", ask)
    rig.stopping.set()
    rig.procedure.probation.evaluate()
    assert asked
    assert all(asked), "the shorter grace"
    assert live(rig)[0] == spoilt
    assert rig.procedure.probation.state() is not None


@pytest.mark.slow
def test_a_version_that_does_worse_is_rolled_back_even_after_a_restart(
    rig: Rig, trained: str, add_street: Any
) -> None:
    spoilt = copy_of(rig, trained, spoilt=True)
    promote(rig, spoilt, trained)
    rig.store.submit(lambda db: db.execute("update samples set rounds_used = 1")).result()
    rig.procedure.probation.evaluate()
    assert live(rig)[0] == spoilt
    assert rig.procedure.probation.text == f"{spoilt} is on probation: 0 of 8 new samples"

    add_street(rig.store, 8, start=200)
    again = Rig(rig.paths, rig.store, rig.context.config)
    again.procedure.probation.evaluate()
    # Back, and a rollback by hand from here does not lead to the bad one.
    assert live(again) == (trained, "v0001")
    assert again.procedure.probation.state() is None
    assert again.procedure.probation.text == ""
    assert again.versions.card(spoilt)["probation"]["outcome"] == "rolled_back"
    (row,) = rig.rows(f"select status from versions where version = '{spoilt}'")
    assert row["status"] == "rolled_back"
    (row,) = rig.rows("select outcome, reasons from rounds where id = 'r9'")
    assert row["outcome"] == "rolled_back"
    assert "better" in row["reasons"]
    assert "rolled back on probation: mIoU" in row["reasons"]
    value = again.registry.get_sample_value("dance_rollbacks_total", {"trigger": "probation"})
    assert value == 1
    # The look was paid for.
    (entry,) = rig.rows(f"select * from ledger where round_id = 'probation-{spoilt}'")
    assert entry["settled_joules"] > 0
    assert not list(rig.paths.rounds.glob(".probation-*"))


@pytest.mark.slow
def test_a_version_that_holds_passes_and_a_round_ahead_looks_early(
    rig: Rig, trained: str, add_street: Any
) -> None:
    same = copy_of(rig, trained, spoilt=False)
    promote(rig, same, trained)
    rig.store.submit(lambda db: db.execute("update samples set rounds_used = 1")).result()
    config = rig.context.config
    rig.context.config = msgspec.structs.replace(
        config, promotion=msgspec.structs.replace(config.promotion, probation_samples=64)
    )
    add_street(rig.store, 8, start=300)
    rig.procedure.probation.evaluate()
    assert "8 of 64" in rig.procedure.probation.text
    rig.procedure.probation.evaluate(round_ahead=True)
    assert live(rig) == (same, trained)
    record = rig.versions.card(same)["probation"]
    assert (record["outcome"], record["frames"]) == ("passed", 8)
    assert rig.procedure.probation.state() is None


@pytest.mark.slow
def test_without_labels_confidence_and_agreement_are_looked_at(rig: Rig, trained: str) -> None:
    same = copy_of(rig, trained, spoilt=False)
    promote(rig, same, trained)
    rig.store.submit(lambda db: db.execute("update samples set label_path = null, rounds_used = 0")).result()
    rig.procedure.probation.evaluate()
    record = rig.versions.card(same)["probation"]
    assert record["outcome"] == "passed"
    assert "mean confidence +0.000" in record["reason"]
    assert "100% of the pixels" in record["reason"]


@pytest.mark.slow
def test_a_look_that_keeps_failing_lets_the_version_be(rig: Rig, trained: str) -> None:
    same = copy_of(rig, trained, spoilt=False)
    promote(rig, same, trained)
    rig.store.submit(lambda db: db.execute("update samples set rounds_used = 0")).result()
    (rig.versions.directory(trained) / "model.safetensors").write_bytes(b"gone")
    clock = [0.0]
    rig.context.monotonic = lambda: clock[0]
    for _ in range(3):
        assert rig.procedure.probation.state() is not None
        clock[0] += 1000.0
        rig.procedure.probation.evaluate()
    assert rig.procedure.probation.state() is None
    assert rig.versions.card(same)["probation"]["outcome"] == "not decided"
    assert live(rig)[0] == same
    assert not rig.rows("select * from ledger where closed_at is null")


class Anything:
    """Serves whatever there is."""

    def prepare(self, directory: object) -> Callable[[], None]:
        return lambda: None


@pytest.fixture
def idle(paths: StatePaths, store: Store) -> Rig:
    """Two untrained versions, the second live; no process runs."""
    found = Rig(paths, store, ON_PROBATION)
    for _ in range(2):
        folder = paths.rounds / "made-up"
        folder.mkdir()
        card = {"architecture": "fastscnn", "classes": ON_PROBATION.model.classes}
        (folder / "card.json").write_text(json.dumps(card))
        (folder / "model.safetensors").write_bytes(b"")
        found.versions.adopt(folder, status="candidate", round_id=None, changes={})
    found.versions.make_live("v0001", reason="test")
    found.context.live_model = Anything()
    return found


def test_probation_counts_only_for_the_version_that_is_live(idle: Rig) -> None:
    probation: Probation = idle.procedure.probation
    # The crash between the two files: the new version never went live.
    probation.begin("v0002", "v0001", "r1")
    assert probation.state() is None
    idle.versions.make_live("v0002", reason="test")
    state = probation.state()
    assert state is not None
    assert (state.version, state.before, state.round) == ("v0002", "v0001", "r1")
    # Taken back by hand: nothing to decide any more.
    idle.procedure.rollback(None)
    assert probation.state() is None
    assert idle.registry.get_sample_value("dance_rollbacks_total", {"trigger": "hand"}) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": "v0001"}'])
def test_a_damaged_file_ends_the_probation(idle: Rig, content: bytes) -> None:
    (idle.paths.models / "probation.json").write_bytes(content)
    assert idle.procedure.probation.state() is None
    assert not (idle.paths.models / "probation.json").exists()


def test_without_joules_the_look_waits_and_says_so(idle: Rig, add_street: Any) -> None:
    poor = Rig(
        idle.paths,
        idle.store,
        msgspec.structs.replace(ON_PROBATION, energy=Energy(budget_joules_per_day=0.0)),
    )
    poor.procedure.probation.begin("v0001", "v0002", "r1")
    file = poor.paths.models / "probation.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), "after": None, "since": BEFORE}))
    add_street(poor.store, 8)
    poor.procedure.probation.evaluate()
    assert "their evaluation waits: the energy budget is 0 J" in poor.procedure.probation.text
    assert poor.procedure.probation.state() is not None


def test_no_probation_where_none_is_asked_for(idle: Rig) -> None:
    idle.context.config = msgspec.structs.replace(CONFIG, promotion=Promotion(probation_samples=0))
    idle.procedure.probation.begin("v0001", "v0002", "r1")
    assert not (idle.paths.models / "probation.json").exists()


def test_frames_count_in_the_order_of_their_coming_whatever_the_calendar_says(
    idle: Rig, add_street: Any
) -> None:
    add_street(idle.store, 3)
    probation = idle.procedure.probation
    idle.context.now = lambda: 4e9  # a clock that is far ahead, and is set right afterwards
    probation.begin("v0001", "v0002", "r1")
    probation.evaluate()
    assert ": 0 of 8 new samples" in probation.text
    add_street(idle.store, 2, start=10)
    probation.evaluate()
    assert ": 2 of 8 new samples" in probation.text
    # The newest are removed, and others get their rows: these count all the same.
    idle.store.remove_samples([row["id"] for row in idle.rows("select id from samples")][1:]).result()
    probation.evaluate()
    add_street(idle.store, 4, start=20)
    probation.evaluate()
    assert ": 4 of 8 new samples" in probation.text


def test_a_look_that_hangs_ends_at_its_deadline_and_is_given_up_in_the_end(
    idle: Rig, add_street: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hanging_look.py").write_text("import signal\nwhile True:\n    signal.pause()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(
        "dance_ondevice.daemon.rounds.probation.TrainerProcess",
        lambda job, log, program, priority: TrainerProcess(
            job, log, program="hanging_look", tick_seconds=0.01
        ),
    )
    now = [0.0]

    def passing() -> float:
        now[0] += 200.0
        return now[0]

    idle.context.monotonic = passing
    idle.procedure.probation.begin("v0001", "v0002", "r1")
    add_street(idle.store, 8)
    for _ in range(3):
        idle.procedure.probation.evaluate()
        now[0] += 1000.0
    record = idle.versions.card("v0001")["probation"]
    assert (record["outcome"], record["reason"]) == (
        "not decided",
        "it took longer than training.max_round_duration",
    )
    assert not idle.rows("select * from ledger where closed_at is null")
