"""kill -9 of the daemon and of its trainer at random points under load: nothing that was promised is lost.

``DANCE_FAULT_KILLS`` says at how many points; ``make faults`` sets 200.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_process import Camera, Daemon
from senders import Load, Promises, audit, check_live_model, check_no_refund, dice

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

KILLS = int(os.environ.get("DANCE_FAULT_KILLS", "4"))
#: Each so many kills one hits a round that runs.
ROUND_EVERY = 20


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Stopped, with a live model and enough labelled samples for a round."""
    daemon = Daemon(tmp_path, inference=True)
    daemon.start()
    with contextlib.closing(Camera(daemon.facts["ingest"][0])) as camera:
        for index in range(24):
            camera.send(index)
    assert daemon.stop() == 0
    daemon.config.write_text(daemon.config.read_text().replace("enabled = true", "enabled = false"))
    yield daemon
    daemon.stop(signal.SIGKILL)


def kill_in_a_round(daemon: Daemon, chance: float) -> None:
    """Ask for a round, and kill the daemon somewhere in it."""
    daemon.ask("train_now")
    daemon.wait_until(lambda status: status["rounds"]["running"])
    started = time.monotonic()
    if chance > 0.3:
        daemon.wait_until(lambda status: status["rounds"]["step"] or not status["rounds"]["running"])
    while time.monotonic() - started < 4 * chance:
        # A moment that nothing marks is what is wanted.
        time.sleep(0.05)
    daemon.stop(signal.SIGKILL)


def test_kill_9_of_the_daemon_under_load(daemon: Daemon) -> None:
    chance = dice("daemon", KILLS)
    promises = Promises()
    first = 100
    books = audit(daemon.state, promises)
    rounds = 0
    for kill in range(KILLS):
        if kill % 5 == 4:
            # While it starts: somewhere in the first second.
            daemon.launch()
            time.sleep(chance.uniform(0.1, 1.5))
            daemon.stop(signal.SIGKILL)
        else:
            daemon.start()
            process = daemon.process
            assert process is not None
            load = Load(daemon.facts["ingest"][0], promises, first=first)
            goal = promises.answers.total() + chance.randint(1, 150)
            assert load.wait_for_answers(goal, alive=lambda p=process: p.poll() is None)  # type: ignore[misc]
            if kill % ROUND_EVERY == 1:
                kill_in_a_round(daemon, chance.random())
                rounds += 1
            daemon.stop(signal.SIGKILL)
            first = load.stop()
        found = audit(daemon.state, promises)
        # What was open at an earlier kill is closed by the next start that comes so far.
        closed = {entry: joules for entry, joules in books["open"].items() if entry not in found["open"]}
        check_no_refund({**books, "open": closed}, found)
        assert sum(found["open"].values()) >= sum(books["open"].values()) - sum(closed.values())
        assert found["settled"] >= books["settled"]
        books = found
        assert check_live_model(daemon.state) == "v0001" or rounds
    daemon.start()
    status = daemon.ask("status")
    assert status["version"] == check_live_model(daemon.state)
    assert not [warning for warning in status["warnings"] if "does not load" in warning]
    assert daemon.stop() == 0
    final = audit(daemon.state, promises)
    check_no_refund(books, final)
    assert not final["open"]
    assert len(promises.kept) > KILLS
    assert rounds == 0 or final["closed"]
    print(f"kills={KILLS} in_rounds={rounds} sent={promises.sent} acked_kept={len(promises.kept)}")


def test_kill_9_of_the_trainer_under_load(daemon: Daemon) -> None:
    """The daemon lives on, the round fails with its joules on record, and the next one is free to run."""
    chance = dice("trainer", KILLS)
    promises = Promises()
    daemon.start()
    assert daemon.process is not None
    load = Load(daemon.facts["ingest"][0], promises, first=100, cameras=1)
    kills = max(2, KILLS // 20)
    for kill in range(kills):
        failed = daemon.ask("status")["rounds"].get("failed", 0)
        daemon.ask("train_now")
        daemon.wait_until(lambda status: status["rounds"]["running"])
        if kill % 2:
            daemon.wait_until(lambda status: status["rounds"]["step"] or not status["rounds"]["running"])
        time.sleep(chance.uniform(0.0, 0.5))
        children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").parent.parent
        for task in children.iterdir():
            for child in (task / "children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
        status = daemon.wait_until(lambda status: not status["rounds"]["running"])
        if kill == 0:
            assert status["rounds"].get("failed", 0) > failed
    assert daemon.process.poll() is None
    load.stop()
    assert daemon.stop() == 0
    books = audit(daemon.state, promises)
    assert not books["open"]
    assert len(books["closed"]) >= kills
    assert all(settled is not None and settled > 0 for _, settled in books["closed"].values())
    check_live_model(daemon.state)
    assert promises.kept
