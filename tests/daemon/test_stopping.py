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

from dance_ondevice.daemon import round_runner, stopping, trainer
from dance_ondevice.daemon.round_runner import NO_STEPS, STOP_GRACE_SECONDS, Limits, watch
from dance_ondevice.daemon.service import Service
from dance_ondevice.daemon.trainer import TrainerProcess
from dance_ondevice.daemon.trainer_interrupts import SAVE_SECONDS, Leave, Saved, Wishes
from dance_ondevice.images import encode_png
from dance_ondevice.models.forward import Normalisation
from dance_ondevice.training import Trainer, TrainingOptions, TrainingSample


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
    assert STOP_GRACE_SECONDS < trainer.GRACE_SECONDS


DEAF = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).with_name("deaf").touch()
while True:
    signal.pause()
"""


def test_a_trainer_that_ignores_sigterm_is_killed_when_its_grace_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deaf_trainer.py").write_text(DEAF)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(trainer, "GRACE_SECONDS", 1e9)  # that of other limits is not what ends it here
    clock, diary = Clock(), []

    class Process(TrainerProcess):
        def ask_to_leave(self) -> None:
            diary.append(("ask", clock.now))
            super().ask_to_leave()

        def kill(self) -> None:
            diary.append(("kill", clock.now))
            super().kill()

    def half_a_second_a_look() -> float:
        clock.now += 0.5
        return clock.now

    folder = tmp_path / "round"
    folder.mkdir()
    process = Process(folder / "job.json", folder / "trainer.log", program="deaf_trainer", tick_seconds=0.01)
    process.start()
    asked_to_stop = threading.Event()
    monkeypatch.setattr(asked_to_stop, "is_set", (folder / "deaf").exists)
    result = watch(
        process,
        round_id="r1",
        log_file=folder / "trainer.log",
        limits=Limits(deadline=1e9, resident_bytes=1 << 60, must_stop=lambda: None),
        procfs=Path("/proc"),
        stopping=asked_to_stop,
        monotonic=half_a_second_a_look,
        on_progress=lambda _: None,
    )
    assert [what for what, _ in diary][:2] == ["ask", "kill"]
    asked, killed = (at for _, at in diary[:2])
    assert killed - asked == STOP_GRACE_SECONDS
    # The round stays open: the next start goes on with it, here from its beginning.
    assert result.state == "interrupted"
    assert (folder / "checkpoint" / "complete").read_bytes() == NO_STEPS


def test_a_full_disk_does_not_keep_an_interrupted_round_from_ending(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text("a file where the folder should be")
    round_runner._mark_resumable(tmp_path)


def street(folder: Path) -> TrainingSample:
    image, label = folder / "0.png", folder / "0.label.png"
    image.write_bytes(encode_png(np.full((32, 32, 3), 90, np.uint8)))
    label.write_bytes(encode_png(np.eye(32, dtype=np.uint8)))
    return TrainingSample(image=image, label=label)


@pytest.fixture
def wishes() -> Iterator[Wishes]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    wishes = Wishes(at_once=True)
    wishes.listen()
    yield wishes
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_is_obeyed_at_once_but_not_amid_a_step(wishes: Wishes) -> None:
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


def test_those_who_only_take_note_are_not_disturbed(wishes: Wishes) -> None:
    noting = Wishes()
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
