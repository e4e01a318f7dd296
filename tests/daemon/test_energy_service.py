from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.cputime import process_seconds, resident_bytes, thread_seconds
from dance_ondevice.daemon.energy import CpuAccount, EnergyService
from dance_ondevice.energy.model import ModelledMeter

PROCFS = Path("/proc")


class FakeCpu:
    """CPU seconds by workload, set by the test."""

    def __init__(self) -> None:
        self.used = {"training": 0.0, "ingest": 0.0, "inference": 0.0, "other": 0.0}

    def seconds(self) -> dict[str, float]:
        return dict(self.used)

    def total(self) -> float:
        return sum(self.used.values())


def service(cpu: FakeCpu, clock: list[float], idle: float = 1.0, peak: float = 5.0) -> EnergyService:
    meter = ModelledMeter(cpu.total, idle, peak, 2)
    return EnergyService(meter, cpu, idle_watts=idle, monotonic=lambda: clock[0])  # type: ignore[arg-type]


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0, 10), st.floats(0, 10), st.floats(0, 10), st.floats(0, 10)),
        max_size=20,
    )
)
def test_workloads_and_idle_sum_to_the_whole_and_never_fall(steps: list[tuple[float, ...]]) -> None:
    cpu, clock = FakeCpu(), [0.0]
    energy = service(cpu, clock)
    before: dict[str, float] = {}
    for seconds, *used in steps:
        clock[0] += seconds
        for name, amount in zip(cpu.used, used, strict=True):
            cpu.used[name] += amount
        now = energy.sample()
        parts = sum(now.workloads.values()) + now.idle_joules
        assert parts == pytest.approx(now.gross_joules, abs=1e-6)
        assert all(now.workloads[name] >= joules for name, joules in before.items())
        before = dict(now.workloads)


def test_energy_above_idle_follows_the_share_of_cpu_seconds() -> None:
    cpu, clock = FakeCpu(), [0.0]
    energy = service(cpu, clock)
    clock[0] = 10.0
    cpu.used.update(training=6.0, inference=2.0)
    now = energy.sample()
    # 1 W idle for 10 s, and (5 - 1) / 2 W for each of 8 CPU seconds.
    assert now.gross_joules == pytest.approx(26.0)
    assert now.workloads["training"] == pytest.approx(12.0)
    assert now.workloads["inference"] == pytest.approx(4.0)
    assert now.idle_joules == pytest.approx(10.0)


def test_a_trainer_keeps_what_it_used_after_it_has_gone() -> None:
    account = CpuAccount(PROCFS, {})
    account.attach_trainer(2**22 + 1)  # no such process: nothing is charged and nothing breaks
    assert account.seconds()["training"] == 0.0
    account.detach_trainer(3.5)
    assert account.seconds()["training"] == 3.5
    account.attach_trainer(os.getpid())
    running = account.seconds()["training"]
    assert running > 3.5
    account.detach_trainer(None)
    assert account.seconds()["training"] == running


def test_listed_threads_are_not_charged_to_inference() -> None:
    done, busy = threading.Event(), threading.Event()

    def work() -> None:
        used = 0.0
        while used < 0.1:
            sum(range(20_000))
            used = thread_seconds(PROCFS, os.getpid(), threading.get_native_id()) or 0.0
        busy.set()
        done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert busy.wait(20)
        seconds = CpuAccount(PROCFS, {"ingest": lambda: thread.native_id}).seconds()
        unlisted = CpuAccount(PROCFS, {}).seconds()
    finally:
        done.set()
        thread.join()
    assert seconds["ingest"] >= 0.1
    assert seconds["inference"] < unlisted["inference"]


def test_procfs_readers_say_none_for_what_is_gone(tmp_path: Path) -> None:
    assert process_seconds(tmp_path, 1) is None
    assert thread_seconds(tmp_path, 1, 1) is None
    assert resident_bytes(tmp_path, 1) is None
    assert (resident_bytes(PROCFS, os.getpid()) or 0) > 1 << 20


def test_a_process_name_with_brackets_is_read_right(tmp_path: Path) -> None:
    stat = tmp_path / "7" / "stat"
    stat.parent.mkdir()
    fields = ["0"] * 50
    ticks = os.sysconf("SC_CLK_TCK")
    fields[11:15] = [str(ticks), str(2 * ticks), str(ticks), "0"]
    stat.write_text("7 (a (b) c) S " + " ".join(fields[1:]))
    assert process_seconds(tmp_path, 7) == 4.0
