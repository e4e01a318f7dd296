"""The daemon is down within seconds, whatever does not react."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dance_ondevice.daemon.children.jobs import NO_STEPS
from dance_ondevice.daemon.children.process import GRACE_SECONDS, STOP_GRACE_SECONDS, TrainerProcess
from dance_ondevice.daemon.children.watcher import ChildWatcher, Limits
from dance_ondevice.daemon.energy.service import CpuAccount
from dance_ondevice.daemon.rounds import watch as round_runner
from dance_ondevice.daemon.rounds.watch import watch
from dance_ondevice.daemon.system import stopping
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.trainer.interrupts import SAVE_SECONDS, Leave, ParentRequests, Saved
from dance_ondevice.images.codec import encode_png
from dance_ondevice.models.card import Normalisation
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.trainer import Trainer, TrainingOptions


class Clock:
    """Seconds that pass only where somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Part(Service):
    """A service whose thread ends after so many seconds, by a clock of the test."""

    def __init__(self, name: str, clock: Clock, diary: list[str], takes: float) -> None:
        super().__init__(name)
        self._clock, self._diary, self._takes = clock, diary, takes
        self.asked_at: float | None = None
        self.left = 0.0

    def run(self) -> None:
        raise AssertionError("never started")

    def ask_to_stop(self) -> None:
        if self.asked_at is None:
            self.asked_at = self._clock.now
            self._diary.append(f"ask {self.name}")

    def stop(self, timeout: float = 5.0) -> bool:
        self.ask_to_stop()
        assert self.asked_at is not None
        self._diary.append(f"join {self.name}")
        self.left = timeout
        ends = self.asked_at + self._takes
        self._clock.now = max(self._clock.now, min(ends, self._clock.now + timeout))
        return ends <= self._clock.now


def test_all_are_asked_before_one_is_waited_for_and_the_store_is_last() -> None:
    clock, diary = Clock(), []
    parts = [Part(name, clock, diary, 1.0) for name in ("store", "energy", "rounds", "ingest")]
    stopping.stop(parts, close_metrics=lambda: None, monotonic=clock)
    assert diary == [
        *("ask energy", "ask rounds", "ask ingest"),
        *("join ingest", "join rounds", "join energy"),
        *("ask store", "join store"),
    ]
    assert clock.now - 100 == 2.0, "what was asked at once ends at once"


def test_threads_that_hang_take_no_time_but_their_own(caplog: pytest.LogCaptureFixture) -> None:
    clock, diary, closed = Clock(), [], threading.Event()
    parts = [Part(name, clock, diary, 1e9) for name in ("store", "energy", "inference", "rounds", "ingest")]
    with caplog.at_level(logging.ERROR):
        stopping.stop(parts, close_metrics=closed.set, monotonic=clock)
    assert clock.now - 100 == pytest.approx(stopping.STORE_SECONDS)
    assert parts[0].left == pytest.approx(stopping.STORE_SECONDS - stopping.SERVICES_SECONDS)
    assert [record.args for record in caplog.records] == [
        (name,) for name in ("ingest", "rounds", "inference", "energy", "store")
    ]
    assert closed.is_set()


def test_the_deadlines_lie_within_each_other() -> None:
    tick = 0.5
    assert TrainerProcess(Path(), Path())._tick == tick
    # At worst one tick until the stop is seen, and one until the grace is seen to be over.
    killed = tick + STOP_GRACE_SECONDS + tick
    assert killed < stopping.SERVICES_SECONDS < stopping.STORE_SECONDS < stopping.END_SECONDS
    assert stopping.END_SECONDS < stopping.STOP_SECONDS == 5.0


DEAF = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).with_name("deaf").touch()
while True:
    signal.pause()
"""


class DeafTrainer(TrainerProcess):
    """A process that ignores SIGTERM; each look at the clock is half a second later than the last."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        (folder / "deaf_trainer.py").write_text(DEAF)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        self.folder, self.now = folder, 100.0
        self.asked_at: float | None = None
        self.killed_at: float | None = None
        super().__init__(
            folder / "job.json",
            folder / "trainer.log",
            program="deaf_trainer",
            tick_seconds=0.01,
            monotonic=self.look,
        )

    def look(self) -> float:
        self.now += 0.5
        return self.now

    @property
    def is_deaf(self) -> bool:
        return (self.folder / "deaf").exists()

    def ask_to_leave(self, *, daemon_stops: bool = False) -> None:
        self.asked_at = self.asked_at or self.now
        super().ask_to_leave(daemon_stops=daemon_stops)

    def kill(self) -> None:
        self.killed_at = self.killed_at or self.now
        super().kill()

    @property
    def waited(self) -> float:
        assert self.asked_at is not None
        assert self.killed_at is not None
        return self.killed_at - self.asked_at


def test_a_trainer_that_ignores_sigterm_is_killed_when_its_grace_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = DeafTrainer(tmp_path / "round", monkeypatch)
    asked_to_stop = threading.Event()
    monkeypatch.setattr(asked_to_stop, "is_set", lambda: process.is_deaf)
    result = watch(
        process,
        ChildWatcher(
            cpu=CpuAccount(Path("/proc"), {}),
            procfs=Path("/proc"),
            stopping=asked_to_stop,
            monotonic=lambda: process.now,
            beat=lambda: None,
        ),
        round_id="r1",
        log_file=process.folder / "trainer.log",
        limits=Limits(deadline=1e9, must_stop=lambda: None),
        on_progress=lambda _: None,
    )
    assert STOP_GRACE_SECONDS <= process.waited <= STOP_GRACE_SECONDS + 2
    # The round stays open: the next start goes on with it, here from its beginning.
    assert result.state == "interrupted"
    assert (process.folder / "checkpoint" / "complete").read_bytes() == NO_STEPS


@pytest.mark.parametrize("stops_later", [False, True])
def test_a_stop_shortens_the_grace_of_a_child_that_was_asked_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops_later: bool
) -> None:
    process = DeafTrainer(tmp_path / "round", monkeypatch)
    process.start()
    for _ in process.events():
        if process.is_deaf:
            process.ask_to_leave()
            if stops_later:
                process.ask_to_leave(daemon_stops=True)
    grace = STOP_GRACE_SECONDS if stops_later else GRACE_SECONDS
    assert grace <= process.waited <= grace + 2


def test_a_full_disk_does_not_keep_an_interrupted_round_from_ending(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text("a file where the folder should be")
    round_runner._mark_resumable(tmp_path)


def street(folder: Path) -> TrainingSample:
    image, label = folder / "0.png", folder / "0.label.png"
    image.write_bytes(encode_png(np.full((32, 32, 3), 90, np.uint8)))
    label.write_bytes(encode_png(np.eye(32, dtype=np.uint8)))
    return TrainingSample(image=image, label=label)


@pytest.fixture
def wishes() -> Iterator[ParentRequests]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    wishes = ParentRequests(at_once=True)
    wishes.listen()
    yield wishes
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_is_obeyed_at_once_but_not_amid_a_step(wishes: ParentRequests) -> None:
    done: list[Any] = []
    with pytest.raises(Leave):  # noqa: PT012 - the second statement shows that the first did not raise
        with wishes.later():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("the step")
        done.append("something else")
    assert done == ["the step"]
    assert wishes.leave

    wishes.leave = False
    with pytest.raises(Leave):
        os.kill(os.getpid(), signal.SIGTERM)
    # Whoever says it twice does not disturb the leaving.
    os.kill(os.getpid(), signal.SIGTERM)


def test_those_who_only_take_note_are_not_disturbed(wishes: ParentRequests) -> None:
    noting = ParentRequests()
    noting.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert (noting.leave, noting.finish) == (True, True)


@pytest.mark.usefixtures("one_thread_one_seed")
def test_the_state_is_due_a_minute_after_it_was_saved_last(tmp_path: Path) -> None:
    clock = Clock()
    saved = Saved(tmp_path, clock)
    clock.now += SAVE_SECONDS - 1
    assert not saved.due
    clock.now += 1
    assert saved.due
    # Nothing was learnt yet: there is nothing to save.
    model = nn.Conv2d(3, 2, 1)
    training = Trainer(model, [street(tmp_path)], TrainingOptions(steps=2, num_classes=2), Normalisation())
    saved.load(training)
    assert not saved.due
    saved.write(training)
    assert not list(tmp_path.glob("state*"))
    next(iter(training))
    clock.now += SAVE_SECONDS
    saved.write(training)
    assert not saved.due
    assert (saved.step, (tmp_path / "complete").read_bytes()) == (1, b"1")
    # Whoever goes on from it has done that step.
    again = Trainer(nn.Conv2d(3, 2, 1), [street(tmp_path)], training.options, Normalisation())
    Saved(tmp_path, clock).load(again)
    assert again.step == 1
    torch.testing.assert_close(again.model.state_dict(), model.state_dict())
