"""Children that hang, grow or spend: one watcher ends each of them, and its thread goes on beating."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dance_ondevice.daemon.children import jobs, watcher
from dance_ondevice.daemon.children.child import out_of_memory
from dance_ondevice.daemon.children.process import TrainerProcess
from dance_ondevice.daemon.children.watcher import ChildWatcher, Ended, Limits, resident_bytes
from dance_ondevice.daemon.energy.service import CpuAccount

#: Says that it runs, then does nothing until it is asked to leave.
HANGS = """
import json, signal, sys
print(json.dumps({"type": "started", "pid": 1}), flush=True)
while True:
    signal.pause()
"""


class Watched:
    """A child that hangs, and what its watcher did."""

    def __init__(self, folder: Path) -> None:
        self.cpu = CpuAccount(Path("/proc"), {})
        self.now = 0.0
        self.stopping = threading.Event()
        self.beats = 0
        self.process = TrainerProcess(
            folder / "job.json", folder / "child.log", program="hanging_child", tick_seconds=0.01
        )

    def _look(self) -> float:
        self.now += 1.0
        return self.now

    def _beat(self) -> None:
        self.beats += 1

    def run(
        self,
        *,
        deadline: float = 1e9,
        must_stop: Callable[[], str | None] = lambda: None,
        take: Callable[[jobs.Event], None] = lambda event: None,
        procfs: Path = Path("/proc"),
    ) -> Ended:
        watching = ChildWatcher(
            cpu=self.cpu,
            procfs=procfs,
            stopping=self.stopping,
            monotonic=self._look,
            beat=self._beat,
        )
        limits = Limits(deadline=deadline, must_stop=must_stop)
        return watching.run(self.process, limits, take)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    (tmp_path / "hanging_child.py").write_text(HANGS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Watched(tmp_path)


def test_a_child_that_hangs_ends_at_its_deadline_while_its_thread_beats(watched: Watched) -> None:
    ended = watched.run(deadline=50.0)
    assert (ended.limit, ended.reason) == ("deadline", "it took longer than training.max_round_duration")
    assert ended.exit.status == -signal.SIGTERM
    assert watched.now >= 50.0
    assert watched.beats >= 50, "the thread counts as alive while a child says nothing"
    assert not watched.cpu.training


def test_a_child_that_never_got_the_processor_is_told_from_one_that_is_slow(
    watched: Watched, tmp_path: Path
) -> None:
    def starve(_: jobs.Event) -> None:
        folder = tmp_path / str(watched.process.pid)
        folder.mkdir()
        (folder / "schedstat").write_text("9000000000 231000000000 77\n")

    ended = watched.run(deadline=50.0, take=starve, procfs=tmp_path)
    assert "waiting for the processor for 231 s (training.priority" in ended.reason


def test_a_child_that_grows_ends_at_its_limit_of_memory(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "memory_limit", lambda _: 1)
    ended = watched.run()
    assert ended.limit == "memory"
    assert "more than the 0 MiB that this board can spare" in ended.reason
    assert ended.peak_bytes > 1


def test_a_child_that_spends_too_much_is_ended_with_the_reason(watched: Watched) -> None:
    ended = watched.run(must_stop=lambda: "joules are short")
    assert (ended.limit, ended.reason) == ("energy", "joules are short")


def test_a_stop_of_the_daemon_ends_a_child(watched: Watched) -> None:
    watched.stopping.set()
    assert watched.run().limit == "stopping"


def test_a_child_dies_with_whoever_takes_its_events(watched: Watched) -> None:
    def take(event: jobs.Event) -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError):
        watched.run(take=take)
    assert not watched.cpu.training
    with pytest.raises(ChildProcessError):
        os.waitpid(watched.process.pid, os.WNOHANG)


def test_the_resident_bytes_of_a_process_are_known_while_it_is_there(tmp_path: Path) -> None:
    assert resident_bytes(tmp_path, 1) is None
    assert (resident_bytes(Path("/proc"), os.getpid()) or 0) > 1 << 20


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 7.44 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes."),
    ],
)
def test_want_of_memory_is_told_from_other_errors(error: Exception) -> None:
    assert out_of_memory(error)
    assert not out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
