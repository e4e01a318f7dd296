from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dance_ondevice.daemon.cli import main
from dance_ondevice.daemon.config.load import load
from dance_ondevice.daemon.energy import calibration, meters


class FakeMeter:
    source, method, period_s, about = "ina3221", "integrated", 0.1, "the board's input rail"


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Four cores, busy as asked for; the board's meter sees 2 W and 2 W a busy core. Records the loads."""
    loads: list[tuple[int, float]] = []

    def run_load(
        board: calibration.Board, busy: int, seconds: float, meter: object = None
    ) -> tuple[float, float | None]:
        loads.append((busy, seconds))
        return busy / board.cores, 2.0 + 2.0 * busy if isinstance(meter, FakeMeter) else None

    monkeypatch.setattr(calibration, "run_load", run_load)
    monkeypatch.setattr(
        calibration,
        "this_board",
        lambda procfs: calibration.Board(procfs=procfs, cores=4, load=calibration.busy_cores),
    )
    return loads


def calibrate(*arguments: str, typed: str | None = None, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(main, ["energy", "calibrate", *arguments], input=typed)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_readings_given_become_two_lines_of_the_configuration(board: list[tuple[int, float]], tmp_path: Path):
    output, told = calibrate("--reference", "2.5", "--reference", "7", "--seconds", "3")
    assert board == [(0, 3.0), (4, 3.0)]
    assert "leaving the board alone for 3 s" in told
    assert "keeping every core busy for 3 s" in told
    lines = output.splitlines()[-2:]
    assert lines == ["idle_watts = 2.50", "max_watts = 7.00"]
    site = tmp_path / "site.toml"
    site.write_text("\n".join(["[energy]", *lines]))
    assert load(site).config.energy.max_watts == 7.0


def test_what_is_not_given_is_asked_for_in_the_order_of_the_loads(board: list[tuple[int, float]]):
    output, told = calibrate("--loads", "3", "--reference", "2", "--json", typed="-1\n4.5\n6\n")
    assert [busy for busy, _ in board] == [0, 2, 4]
    assert [line for line in told.splitlines() if "leaving" in line or "keeping" in line] == [
        "1 of 3: leaving the board alone for 20 s",
        "2 of 3: keeping 2 of 4 cores busy for 20 s; watch your meter",
        "3 of 3: keeping every core busy for 20 s; watch your meter",
    ]
    assert told.count("Mean watts that your meter showed meanwhile") == 3
    answer = json.loads(output)
    assert [p["watts"] for p in answer["points"]] == [2.0, 4.5, 6.0]
    assert [p["utilisation"] for p in answer["points"]] == [0.0, 0.5, 1.0]
    assert answer["idle_watts"] == pytest.approx(13 / 6)
    assert answer["max_watts"] == pytest.approx(37 / 6)
    assert answer["rms_watts"] > 0


def test_the_boards_own_meter_is_read_even_where_the_model_is_configured(
    board: list[tuple[int, float]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    wanted = []

    def choose(energy, cpu_seconds, **_):
        wanted.append(energy.meter)
        return FakeMeter(), ""

    monkeypatch.setattr(meters, "choose_meter", choose)
    site = tmp_path / "site.toml"
    site.write_text('[energy]\nmeter = "modelled"\n')
    output, told = calibrate("--from-meter", "--loads", "3", "--config", str(site))
    assert wanted == ["auto"]
    assert FakeMeter.about in told
    assert output.splitlines()[-2:] == ["idle_watts = 2.00", "max_watts = 10.00"]


def test_without_a_meter_a_reading_is_asked_for(board: list[tuple[int, float]], tmp_path: Path):
    site = tmp_path / "site.toml"
    site.write_text(f'[energy]\nsysfs_root = "{tmp_path}"\n')
    _, told = calibrate("--from-meter", "--config", str(site), code=1)
    assert "--reference" in told
    assert board == []


def test_a_configured_meter_that_is_not_there_is_named(board: list[tuple[int, float]], tmp_path: Path):
    site = tmp_path / "site.toml"
    site.write_text(f'[energy]\nmeter = "rapl"\nsysfs_root = "{tmp_path}"\n')
    _, told = calibrate("--from-meter", "--config", str(site), code=1)
    assert "rapl" in told
    assert board == []


def test_readings_that_fit_no_board_are_refused(board: list[tuple[int, float]]):
    _, told = calibrate("--reference", "5", "--reference", "3", code=1)
    assert "order of the loads" in told


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--from-meter", "--reference", "2"), "exclude each other"),
        (("--reference", "1", "--reference", "2", "--reference", "3"), "3 times --reference for 2 loads"),
        (("--reference", "-1"), "--reference"),
        (("--loads", "1"), "--loads"),
    ],
)
def test_wrong_usage(board: list[tuple[int, float]], arguments: tuple[str, ...], text: str):
    _, told = calibrate(*arguments, code=2)
    assert text in told
    assert board == []
