"""kill -9 of the daemon and of its trainer at random points under load: nothing that was promised is lost.

``DANCE_FAULT_KILLS`` says at how many points; ``make faults`` sets 200.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_process import Camera, Daemon
from figures import Figures
from senders import Load, Promises, audit, check_live_model, check_no_refund, dice

from dance_ondevice.benchmarks.robustness.report import Kills
from dance_ondevice.daemon.config.sections import Energy
from dance_ondevice.daemon.energy.budget import BudgetKeeper
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models.card import ModelCard, encode_card

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

KILLS = int(os.environ.get("DANCE_FAULT_KILLS", "4"))
#: What a reservation that a kill leaves open in the ledger holds.
RESERVED = 55.5


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Not started."""
    daemon = Daemon(tmp_path)
    yield daemon
    if daemon.process is not None:
        daemon.stop(signal.SIGKILL)


def plant_live_model(state: Path) -> None:
    """A version that is live and whole, though no network: with inference off nobody builds it."""
    folder = state / "models" / "v0001"
    folder.mkdir(parents=True)
    tensors = struct.pack("<Q", 2) + b"{}"
    card = ModelCard(
        classes=STREET_CLASSES,
        macs_at=(48, 64),
        architecture="fastscnn",
        version="v0001",
        sha256=hashlib.sha256(tensors).hexdigest(),
    )
    (folder / "model.safetensors").write_bytes(tensors)
    (folder / "card.json").write_bytes(encode_card(card))
    live = {"version": "v0001", "previous": None, "frozen": "v0001"}
    (state / "models" / "live.json").write_text(json.dumps(live))


def leave_a_reservation_open(state: Path, name: str) -> None:
    """As a kill amid a round leaves it."""
    store = Store(StatePaths(state), quota_bytes=1 << 30, min_free_bytes=0)
    store.start()
    try:
        budget = BudgetKeeper(store, Energy(), now=time.time, monotonic=time.monotonic)
        budget.load(history_lost=False)
        budget.reserve(name, RESERVED)
    finally:
        assert store.stop(30)


def test_kill_9_of_the_daemon_under_load(daemon: Daemon, figures: Figures) -> None:
    chance = dice("daemon", KILLS)
    plant_live_model(daemon.state)
    daemon.start()
    full = daemon.ask("status")["energy"]["budget_joules"]
    assert daemon.stop() == 0
    promises = Promises()
    first = 100
    while_starting = 0
    for kill in range(KILLS):
        leave_a_reservation_open(daemon.state, f"round-{kill}")
        books = audit(daemon.state, promises)
        if kill % 4 == 3:
            # While it starts, or just after that.
            while_starting += 1
            daemon.launch()
            time.sleep(chance.uniform(0.1, 2.5))
            daemon.stop(signal.SIGKILL)
        else:
            daemon.start()
            process = daemon.process
            assert process is not None
            load = Load(daemon.facts["ingest"][0], promises, first=first)
            goal = promises.answers.total() + chance.randint(1, 150)
            assert load.wait_for_answers(goal, alive=lambda p=process: p.poll() is None)  # type: ignore[misc]
            daemon.stop(signal.SIGKILL)
            first = load.stop()
        found = audit(daemon.state, promises)
        # An entry is still open where the daemon was killed before it came so far.
        closed = {entry: joules for entry, joules in books["open"].items() if entry not in found["open"]}
        check_no_refund({**books, "open": closed}, found)
        assert closed.keys() | found["open"].keys() == books["open"].keys()
        assert check_live_model(daemon.state) == "v0001"
    daemon.start()
    status = daemon.ask("status")
    assert status["version"] == "v0001"
    assert not [warning for warning in status["warnings"] if "does not load" in warning]
    # What the ledger shows is gone from the day's budget, too; its margin makes that less in what is shown.
    assert status["energy"]["budget_joules"] <= full - KILLS * RESERVED / 2
    assert daemon.stop() == 0
    final = audit(daemon.state, promises)
    assert not final["open"]
    assert final["settled"] >= KILLS * RESERVED
    assert len(promises.kept) > KILLS
    figures.kills.append(measured(f"daemon under load, {while_starting} while it started", KILLS, promises))
    print(figures.kills[-1])


def measured(of: str, kills: int, promises: Promises) -> Kills:
    """The figures of a test whose audits found nothing: no loss and no refund, or it would not be here."""
    return Kills(of=of, kills=kills, sent=promises.sent, kept=len(promises.kept), lost=0, refunds=0)


def kill_children(pid: int) -> int:
    """SIGKILL to what a process has started; returns how many that were."""
    found = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    for child in found:
        os.kill(child, signal.SIGKILL)
    return len(found)


@pytest.fixture
def learning(daemon: Daemon) -> Daemon:
    """Stopped, with a live model of its own and enough labelled samples for a round."""
    daemon.config.write_text(daemon.config.read_text().replace("enabled = false", "enabled = true"))
    daemon.start()
    with contextlib.closing(Camera(daemon.facts["ingest"][0])) as camera:
        for index in range(24):
            camera.send(index)
    assert daemon.stop() == 0
    daemon.config.write_text(daemon.config.read_text().replace("enabled = true", "enabled = false"))
    return daemon


def test_kill_9_of_trainer_and_daemon_amid_rounds(learning: Daemon, figures: Figures) -> None:
    """A killed trainer fails its round with the joules on record; a killed daemon takes its trainer along."""
    daemon, chance, promises = learning, dice("trainer", KILLS), Promises()
    kills = max(2, KILLS // 10)
    first = 100
    for kill in range(kills):
        daemon.start()
        assert daemon.process is not None
        pid = daemon.process.pid
        load = Load(daemon.facts["ingest"][0], promises, first=first, cameras=1)
        before = daemon.ask("status")["rounds"]["count"]
        daemon.ask("train_now")
        daemon.wait_until(lambda status: status["rounds"]["running"])
        if kill % 4 >= 2:
            daemon.wait_until(lambda status: status["rounds"]["step"] or not status["rounds"]["running"])
        time.sleep(chance.uniform(0.0, 1.0))
        if kill % 2 == 0:
            killed = kill_children(pid)
            status = daemon.wait_until(lambda status, n=before: status["rounds"]["count"] > n)  # type: ignore[misc]
            assert not killed or status["rounds"]["last"]["outcome"] == "failed"
        daemon.stop(signal.SIGKILL)
        first = load.stop()
        audit(daemon.state, promises)
        check_live_model(daemon.state)
    books = audit(daemon.state, promises)
    daemon.start()
    daemon.ask("pause")
    assert daemon.ask("status")["version"] == check_live_model(daemon.state)
    assert daemon.stop() == 0
    final = audit(daemon.state, promises)
    check_no_refund(books, final)
    assert not final["open"]
    assert len(final["closed"]) >= kills
    assert all(settled is not None and settled > 0 for _, settled in final["closed"].values())
    assert promises.kept
    figures.kills.append(measured("trainer, daemon or both amid a round", kills, promises))
    print(figures.kills[-1])
