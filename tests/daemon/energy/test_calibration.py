from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.energy.calibration import (
    Board,
    CalibrationError,
    LoadPoint,
    busy_cores,
    fit,
    load_levels,
    run_load,
    this_board,
)
from dance_ondevice.daemon.energy.cputime import process_seconds
from dance_ondevice.energy.reading import DomainEnergy, EnergyReading


def points(*pairs: tuple[float, float]) -> list[LoadPoint]:
    return [LoadPoint(busy_cores=0, utilisation=u, watts=w) for u, w in pairs]


@given(
    idle=st.floats(0, 20),
    above=st.floats(0, 50),
    loads=st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda x: max(x) - min(x) >= 0.3),
)
def test_points_on_a_line_give_that_line(idle: float, above: float, loads: list[float]) -> None:
    # A board that draws nothing when idle may come out a rounding error below zero, which is refused.
    line = fit(points(*((u, 0.01 + idle + above * u) for u in loads)))
    assert line.idle_watts == pytest.approx(0.01 + idle, abs=1e-6)
    assert line.max_watts == pytest.approx(0.01 + idle + above, abs=1e-6)
    assert line.rms_watts == pytest.approx(0, abs=1e-6)


def test_the_line_is_the_one_of_least_squares() -> None:
    line = fit(points((0.0, 2.0), (0.5, 4.0), (1.0, 5.0)))
    assert line.watts(0.0) == line.idle_watts == pytest.approx(13 / 6)
    assert line.watts(1.0) == line.max_watts == pytest.approx(31 / 6)
    assert line.rms_watts == pytest.approx(math.sqrt(1 / 18))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (points(), "differ by only 0%"),
        (points((0.5, 2.0), (0.7, 3.0)), "differ by only 20%"),
        (points((0.0, 5.0), (1.0, 3.0)), "falls from 5.00 W idle to 3.00 W"),
        (points((0.5, 1.0), (1.0, 4.0)), "leaves -2.00 W"),
    ],
)
def test_a_line_that_is_no_boards_is_refused(wrong: list[LoadPoint], text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        fit(wrong)


def test_loads_go_from_none_to_all_cores() -> None:
    assert load_levels(4, 2) == [0, 4]
    assert load_levels(4, 3) == [0, 2, 4]
    assert load_levels(1, 5) == [0, 1]


class FakeBoard:
    """A machine of four cores whose time passes only while it is slept; one core is busy by itself."""

    def __init__(self, procfs: Path, *, missed: float = 0.0) -> None:
        self.procfs = procfs
        self.now, self.busy, self.ticks, self.all = 100.0, 1, 7_000, 90_000
        self.reads: list[float] = []
        self.missed = missed
        self.board = Board(
            procfs=procfs, cores=4, load=self.load, sleep=self.sleep, monotonic=lambda: self.now
        )
        self.write()

    def write(self) -> None:
        rest = self.all - self.ticks
        # guest time (the last two) is in user time already
        fields = [self.ticks - 5, 1, 1, rest - 10, 10, 1, 1, 1, 50, 60]
        (self.procfs / "stat").write_text(f"cpu  {' '.join(map(str, fields))}\ncpu0 1 2 3\n")

    def load(self, cores: int, seconds: float) -> AbstractContextManager[None]:
        self.busy = 1 + cores
        return nullcontext()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.ticks += round(100 * seconds * min(4, self.busy))
        self.all += round(100 * seconds * 4)
        self.write()

    source, method, period_s, about = "fake", "counter", 0.5, "a fake"

    def read(self, now: float) -> EnergyReading:
        self.reads.append(now)
        joules = 2.0 * (now - 100.0)
        return EnergyReading(
            (DomainEnergy("board", 1000 + joules, "fake", "counter"),), self.missed * (now - 100)
        )


@pytest.mark.parametrize(("busy", "utilisation"), [(0, 0.25), (2, 0.75), (4, 1.0)])
def test_utilisation_is_that_of_the_whole_board(tmp_path: Path, busy: int, utilisation: float) -> None:
    found, watts = run_load(FakeBoard(tmp_path).board, busy, 10.0)
    assert found == pytest.approx(utilisation)
    assert watts is None


def test_a_meter_is_read_as_often_as_it_wants(tmp_path: Path) -> None:
    fake = FakeBoard(tmp_path)
    assert run_load(fake.board, 4, 1.25, fake) == (1.0, pytest.approx(2.0))
    assert fake.reads == [100.0, 100.5, 101.0, 101.25]


def test_a_meter_that_fails_is_not_believed(tmp_path: Path) -> None:
    fake = FakeBoard(tmp_path, missed=0.2)
    with pytest.raises(CalibrationError, match=r"2\.0 of 10 s"):
        run_load(fake.board, 0, 10.0, fake)


@pytest.mark.parametrize("text", [None, "", "cpu", "cpu a b c d", "intr 1 2 3 4 5"])
def test_a_processor_that_does_not_tell_is_an_error(tmp_path: Path, text: str | None) -> None:
    fake = FakeBoard(tmp_path)
    if text is None:
        (tmp_path / "stat").unlink()
    else:
        (tmp_path / "stat").write_text(text)
    with pytest.raises(CalibrationError, match="how busy the cores are"):
        run_load(fake.board, 0, 1.0)


def test_a_processor_that_does_not_count_is_an_error(tmp_path: Path) -> None:
    fake = FakeBoard(tmp_path)
    frozen = Board(
        procfs=tmp_path, cores=4, load=fake.load, sleep=lambda _: None, monotonic=iter((0, 9)).__next__
    )
    with pytest.raises(CalibrationError, match="does not count"):
        run_load(frozen, 0, 5.0)


@pytest.mark.slow
def test_a_load_uses_its_core_and_ends_with_the_context() -> None:
    with busy_cores(1, 30.0) as (pid,):
        before = process_seconds(Path("/proc"), pid)
        assert before is not None
        while (process_seconds(Path("/proc"), pid) or 0.0) < before + 0.1:
            pass
    assert process_seconds(Path("/proc"), pid) is None


def test_this_board_has_real_figures() -> None:
    board = this_board(Path("/proc"))
    utilisation, watts = run_load(board, 0, 0.2)
    assert board.cores >= 1
    assert 0 <= utilisation <= 1
    assert watts is None
