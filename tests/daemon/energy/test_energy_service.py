from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.energy.cputime import (
    board_seconds,
    cgroup_seconds,
    own_cgroup,
    process_seconds,
    thread_seconds,
)
from dance_ondevice.daemon.energy.service import CpuAccount, EnergyService
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.energy.model import ModelledMeter
from dance_ondevice.energy.reading import DomainEnergy, EnergyReading, Method

PROCFS = Path("/proc")


class FakeCpu:
    """CPU seconds by workload and of the board, set by the test."""

    def __init__(self) -> None:
        self.used = {"training": 0.0, "ingest": 0.0, "inference": 0.0, "service": 0.0}
        self.busy: float | None = 0.0
        self.training = False

    def board(self) -> float | None:
        return self.busy

    def seconds(self) -> dict[str, float]:
        return dict(self.used)

    def total(self) -> float:
        return sum(self.used.values())


class BoardMeter:
    """A meter of the whole board that says what the test sets."""

    source, about, period_s = "ina3221", "the board", 0.1
    method: Method = "integrated"

    def __init__(self) -> None:
        self.joules = self.unmeasured = 0.0
        self.domain, self.watts = "board", 1.0

    def read(self, now: float) -> EnergyReading:
        domain = DomainEnergy(self.domain, self.joules, self.source, self.method, self.watts)
        return EnergyReading((domain,), self.unmeasured)


def service(cpu: FakeCpu, clock: list[float], idle: float = 1.0, peak: float = 5.0) -> EnergyService:
    meter = ModelledMeter(cpu.total, idle, peak, 2)
    return EnergyService(
        meter,
        cpu,  # type: ignore[arg-type]  # it is read as a CpuAccount is
        idle_watts=idle,
        monotonic=lambda: clock[0],
    )


def on_board(
    cpu: FakeCpu, meter: BoardMeter, clock: list[float], idle: float = 0.0, store: Store | None = None
) -> EnergyService:
    return EnergyService(
        meter,
        cpu,  # type: ignore[arg-type]  # it is read as a CpuAccount is
        idle_watts=idle,
        store=store,
        monotonic=lambda: clock[0],
        now=lambda: 1_760_000_000.0,
        cores=2,
    )


amounts = st.floats(0, 10)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 100),  # seconds
            st.tuples(amounts, amounts, amounts, amounts),  # CPU seconds of the workloads
            st.none() | st.floats(0, 50),  # of other programs, or the kernel tells nothing
            st.floats(0, 500),  # joules
            st.booleans(),  # was it measured
            st.booleans(),  # did a round run
        ),
        max_size=20,
    ),
    st.booleans(),
)
def test_workloads_idle_and_others_sum_to_the_whole_and_never_fall(
    steps: list[tuple[float, tuple[float, ...], float | None, float, bool, bool]], modelled: bool
) -> None:
    cpu, clock, meter = FakeCpu(), [0.0], BoardMeter()
    energy = service(cpu, clock) if modelled else on_board(cpu, meter, clock)
    before: dict[str, float] = {}
    busy = 0.0
    for seconds, used, others, joules, measured, training in steps:
        clock[0] += seconds
        meter.joules += joules
        meter.unmeasured += 0.0 if measured else seconds
        for name, amount in zip(cpu.used, used, strict=True):
            cpu.used[name] += amount
        busy += sum(used) + (others or 0.0)
        cpu.busy, cpu.training = None if others is None else busy, training
        now = energy.sample()
        parts = {**now.workloads, "idle": now.idle_joules, "others": now.others_joules}
        assert sum(parts.values()) == pytest.approx(now.gross_joules, abs=1e-6)
        assert all(parts[name] >= joules for name, joules in before.items())
        assert not (modelled and now.others_joules > 1e-9 * now.gross_joules)
        before = parts


def test_a_meter_that_appears_late_is_searched_for_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    energy = service(FakeCpu(), clock)
    asked: list[float] = []

    def look() -> str:
        asked.append(clock[0])
        return "a meter has appeared" if clock[0] > 500 else ""

    energy.look_again = look
    for clock[0] in (10.0, 300.0, 301.0, 600.0, 900.0):
        energy.search()
    assert asked == [300.0, 600.0, 900.0]
    assert energy.later == "a meter has appeared"
    assert caplog.text.count("found late") == 1


def test_what_other_programs_use_is_never_booked_to_the_daemon() -> None:
    cpu, clock, meter = FakeCpu(), [0.0], BoardMeter()
    energy = on_board(cpu, meter, clock, idle=3.0)
    clock[0], meter.joules = 5.0, 35.0  # 20 J above the 3 W idle
    cpu.used["training"], cpu.busy = 2.0, 8.0  # a quarter of the busy time is ours
    now = energy.sample()
    assert now.workloads["training"] == pytest.approx(5.0)
    assert (now.idle_joules, now.others_joules) == (pytest.approx(15.0), pytest.approx(15.0))
    clock[0], meter.joules, cpu.busy = 10.0, 70.0, 16.0  # the daemon slept: all of it is others'
    assert energy.sample().workloads["training"] == pytest.approx(5.0)
    # Where the kernel does not tell, all cores count as busy: 20 J x 2 s / (2 cores x 5 s).
    clock[0], meter.joules, cpu.busy, cpu.used["training"] = 15.0, 105.0, None, 4.0
    assert energy.sample().workloads["training"] == pytest.approx(5.0 + 4.0)


def test_unmeasured_time_has_no_idle_joules() -> None:
    cpu, clock, meter = FakeCpu(), [0.0], BoardMeter()
    energy = on_board(cpu, meter, clock, idle=3.0)
    clock[0], meter.joules, meter.unmeasured = 10.0, 6.0, 8.0
    now = energy.sample()
    assert now.idle_joules == 6.0
    before = energy.snapshot()
    clock[0], meter.unmeasured = 11.0, 9.0
    assert energy.used_since(before).unmeasured_seconds == 1.0


def test_idle_power_is_learnt_from_time_without_a_round() -> None:
    cpu, clock, meter = FakeCpu(), [0.0], BoardMeter()
    energy = on_board(cpu, meter, clock)

    def spend(watts: float, *, training: bool) -> float:
        cpu.training = training
        clock[0] += 10.0
        meter.joules += 10.0 * watts
        return energy.sample().idle_watts

    for _ in range(20):
        spend(9.0, training=True)
    assert energy.snapshot().idle_watts == 0.0
    for number in range(100):
        spend(4.0 if number % 5 == 0 else 6.0, training=False)
    assert spend(20.0, training=True) == 4.0  # the lowest tenth, whatever else runs now and then
    capped = on_board(cpu, meter, clock, idle=2.5)
    clock[0] += 10.0
    meter.joules += 60.0
    assert capped.sample().idle_watts == 2.5  # what the user knows is not exceeded


def test_idle_power_is_learnt_from_a_gauge_that_takes_a_step_a_minute() -> None:
    cpu, clock, meter = FakeCpu(), [0.0], BoardMeter()
    energy = on_board(cpu, meter, clock)
    for second in range(1, 1201):
        clock[0], meter.joules = float(second), second // 60 * 600.0
        cpu.busy = second * 0.1
        energy.tick()
        if second % 50 == 0:
            energy.persist()
    now = energy.snapshot()
    assert now.idle_watts == pytest.approx(10.0)
    assert (now.gross_joules, now.idle_joules) == (pytest.approx(12_000.0), pytest.approx(12_000.0))


def test_a_rail_that_is_busy_for_a_moment_is_not_another_meter() -> None:
    """Else what the board draws at rest was charged to the round that ran, and its cost foretold none."""
    cpu, clock, meter = FakeCpu(), [0.0], BoardMeter()
    energy = on_board(cpu, meter, clock)
    rails: list[float | None] = [1.0, 3.0]

    def read(now: float) -> EnergyReading:
        names = zip(("VDD_CPU_CV", "VDD_GPU_SOC"), rails, strict=True)
        domains = [DomainEnergy(name, 2.0 * now, "ina3221", "integrated", watts) for name, watts in names]
        return EnergyReading(tuple(domains), 0.0)

    meter.read = read  # type: ignore[method-assign]  # a sensor that goes silent for a moment
    for _ in range(20):
        clock[0] += 10.0
        energy.sample()
    cpu.training, both = True, energy.snapshot().meter
    for rails[1] in (None, 3.0):
        clock[0] += 1.0
        assert (energy.sample().idle_watts, energy.snapshot().meter) == (pytest.approx(4.0), both)


def test_shares_are_taken_once_a_second_however_often_the_meter_is_read() -> None:
    cpu, clock, meter = FakeCpu(), [0.0], BoardMeter()
    energy = on_board(cpu, meter, clock)
    published = energy.snapshot()
    for tick in range(1, 12):
        clock[0], meter.joules = tick / 10, float(tick)
        energy.tick()
        assert (energy.snapshot() is published) == (tick < 10 or tick == 11)
        published = energy.snapshot()
    assert published.gross_joules == 10.0


def test_every_joule_reaches_the_table_of_days(store: Store) -> None:
    cpu, clock, meter = FakeCpu(), [0.0], BoardMeter()
    energy = on_board(cpu, meter, clock, idle=1.0, store=store)
    for _ in range(2):
        clock[0] += 10.0
        meter.joules += 50.0
        cpu.used["training"] += 2.0
        cpu.busy = (cpu.busy or 0.0) + 8.0
        energy.persist()
    rows = store.submit(lambda db: list(db.query("select * from energy where joules > 0"))).result()
    assert {row["workload"]: row["joules"] for row in rows} == pytest.approx(
        {"training": 20.0, "idle": 20.0, "others": 60.0}
    )
    assert {(row["day"], row["source"], row["method"]) for row in rows} == {
        ("2025-10-09", "ina3221", "integrated")
    }


def test_joules_that_could_not_be_written_are_written_later(store: Store) -> None:
    cpu, clock, meter = FakeCpu(), [0.0], BoardMeter()
    energy = on_board(cpu, meter, clock, store=store)
    store.submit(lambda db: db.execute("alter table energy rename to away")).result()
    meter.joules = 50.0
    energy.persist()
    store.submit(lambda db: db.execute("alter table away rename to energy")).result()
    energy.persist()
    (row,) = store.submit(lambda db: list(db.query("select * from energy where joules > 0"))).result()
    assert (row["workload"], row["joules"]) == ("others", 50.0)


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
    account.detach_trainer(2**22 + 1, 3.5)
    assert account.seconds()["training"] == 3.5
    account.attach_trainer(os.getpid())
    running = account.seconds()["training"]
    assert running > 3.5
    account.detach_trainer(os.getpid(), None)
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


def test_without_inference_what_is_not_listed_is_upkeep() -> None:
    account = CpuAccount(PROCFS, {}, inference=False)
    seconds = account.seconds()
    assert seconds["inference"] == 0
    assert seconds["service"] > 0
    assert sum(seconds.values()) == pytest.approx(account.total(), abs=1)


def test_what_a_request_has_cost_is_upkeep_and_never_inference() -> None:
    account = CpuAccount(PROCFS, {})
    before = account.seconds()
    # The process used it, too: it moves from what is not listed to upkeep.
    account.charge_upkeep(before["inference"] / 2)
    after = account.seconds()
    assert after["service"] == pytest.approx(before["service"] + before["inference"] / 2)


def test_joules_are_written_under_the_meter_that_measured_them(tmp_path: Path) -> None:
    store = Store(StatePaths(tmp_path), quota_bytes=1 << 20, min_free_bytes=0)
    store.start()
    try:
        cpu, clock, meter = FakeCpu(), [0.0], BoardMeter()
        energy = on_board(cpu, meter, clock, store=store)
        clock[0], meter.joules = 5.0, 50.0
        energy.sample()
        meter.source, meter.method = "rapl", "counter"
        clock[0], meter.joules = 10.0, 80.0
        energy.persist()
        rows = store.submit(
            lambda db: list(db.execute("select source, method, sum(joules) from energy group by source"))
        ).result()
    finally:
        store.stop()
    assert rows == [("ina3221", "integrated", 50.0), ("rapl", "counter", 30.0)]


def test_idle_power_is_learnt_anew_when_another_meter_is_read() -> None:
    cpu, clock, meter = FakeCpu(), [0.0], BoardMeter()
    energy = on_board(cpu, meter, clock)

    def rest(watts: float, seconds: int, domain: str) -> float:
        meter.domain, meter.watts = domain, watts
        for _ in range(seconds):
            clock[0] += 1.0
            meter.joules += watts
            energy.sample()
        return energy.snapshot().idle_watts

    assert rest(3.85, 60, "package-0") == pytest.approx(3.85)
    assert energy.snapshot().meter == "ina3221:package-0"
    assert rest(6.66, 60, "psys") == pytest.approx(6.66, rel=0.01)


def test_procfs_readers_say_none_for_what_is_gone(tmp_path: Path) -> None:
    assert process_seconds(tmp_path, 1) is None
    assert thread_seconds(tmp_path, 1, 1) is None


def test_a_process_name_with_brackets_is_read_right(tmp_path: Path) -> None:
    stat = tmp_path / "7" / "stat"
    stat.parent.mkdir()
    fields = ["0"] * 50
    ticks = os.sysconf("SC_CLK_TCK")
    fields[11:15] = [str(ticks), str(2 * ticks), str(ticks), "0"]
    stat.write_text("7 (a (b) c) S " + " ".join(fields[1:]))
    assert process_seconds(tmp_path, 7) == 4.0


def test_the_whole_board_is_busy_as_proc_stat_says(tmp_path: Path) -> None:
    assert board_seconds(tmp_path) is None
    ticks = os.sysconf("SC_CLK_TCK")
    columns = [2 * ticks, ticks, ticks, 900 * ticks, 50 * ticks, ticks, ticks, 7 * ticks, 2 * ticks, 0]
    (tmp_path / "stat").write_text(f"cpu  {' '.join(map(str, columns))}\ncpu0 1 2 3\n")
    assert board_seconds(tmp_path) == 6.0  # neither idle, waiting, stolen nor, twice, guest time
    (tmp_path / "stat").write_text("cpu  garbage\n")
    assert board_seconds(tmp_path) is None
    assert (board_seconds(PROCFS) or 0.0) > 0.0


def grouped(tmp_path: Path, members: str) -> tuple[Path, Path, Path]:
    """Roots of procfs and sysfs in which this process is in a cgroup, and the group's cpu.stat."""
    pid, procfs, sysfs = os.getpid(), tmp_path / "proc", tmp_path / "sys"
    folder = sysfs / "fs" / "cgroup" / "system.slice" / "dance.service"
    folder.mkdir(parents=True)
    (procfs / str(pid)).mkdir(parents=True)
    (procfs / str(pid) / "cgroup").write_text("4:memory:/x\n0::/system.slice/dance.service\n")
    (folder / "cgroup.procs").write_text(members)
    (folder / "cpu.stat").write_text("usage_usec 7500000\nuser_usec 1\n")
    return procfs, sysfs, folder / "cpu.stat"


def test_a_cgroup_counts_only_when_it_is_the_daemons_own(tmp_path: Path) -> None:
    procfs, sysfs, stat = grouped(tmp_path, f"{os.getpid()}\n")
    assert own_cgroup(procfs, sysfs, os.getpid()) == stat.parent
    assert cgroup_seconds(stat.parent) == 7.5
    (stat.parent / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    assert own_cgroup(procfs, sysfs, os.getpid()) is None
    assert own_cgroup(tmp_path, sysfs, os.getpid()) is None
    stat.write_text("garbage\n")
    assert cgroup_seconds(stat.parent) is None


def test_what_process_times_miss_is_taken_from_the_cgroup(tmp_path: Path) -> None:
    procfs, sysfs, stat = grouped(tmp_path, f"{os.getpid()}\n")
    account = CpuAccount(procfs, {}, sysfs=sysfs)
    before = account.seconds()
    stat.write_text("usage_usec 107500000\n")  # 100 s more, of which this process knows hardly any
    upkeep = account.seconds()["service"] - before["service"]
    assert 90 < upkeep <= 100
    account.attach_trainer(2**22 + 1)  # one that procfs does not show
    stat.write_text("usage_usec 207500000\n")
    after = account.seconds()
    assert 90 < after["training"] <= 100
    assert after["service"] - before["service"] == upkeep
    assert account.total() - sum(before.values()) == pytest.approx(200, abs=1)
