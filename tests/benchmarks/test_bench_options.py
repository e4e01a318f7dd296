from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dance_ondevice import __version__
from dance_ondevice.benchmarks.options import hand_over, made_here, work_option
from dance_ondevice.benchmarks.slimming.command import _SIZES
from dance_ondevice.benchmarks.slimming.plan import EVALUATED
from dance_ondevice.daemon.cli import WorkFailed
from dance_ondevice.datasets.registry import DATASET_NAMES


def test_a_result_is_written_drawn_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = made_here("b", "dance-ondevice bench b", "d", seed=2, note="n")
    assert (about.version, about.seed, about.note) == (__version__, 2, "n")

    def draw(report: dict[str, int], out: Path) -> list[str]:
        assert out.is_file()
        return [f"drew {report['speed']}"]

    out = tmp_path / "r.json"
    hand_over(about, {"speed": 3}, lambda r: click.echo(f"{r}"), out=out, as_json=False, draw=draw)
    assert capsys.readouterr() == ("{'speed': 3}\n", "drew 3\n")
    hand_over(about, {"speed": 3}, lambda r: click.echo("no"), out=None, as_json=True, draw=draw)
    found = capsys.readouterr()
    assert (found.out, found.err) == (out.read_text(), "")
    assert json.loads(found.out)["speed"] == 3


def test_a_result_that_cannot_be_written_is_failed_work(tmp_path: Path) -> None:
    about = made_here("b", "c", "d", seed=None)
    with pytest.raises(WorkFailed, match=r"cannot write .*: "):
        hand_over(about, {}, lambda _: None, out=tmp_path / "no" / "r.json", as_json=True)


def test_a_folder_for_work_is_made_or_refused(tmp_path: Path) -> None:
    @click.command
    @work_option("help")
    def command(work: Path) -> None:
        click.echo(work.is_dir())

    inside = str(tmp_path / "new" / "work")
    assert CliRunner().invoke(command, ["--work", inside]).output == "True\n"
    (tmp_path / "file").touch()
    done = CliRunner().invoke(command, ["--work", str(tmp_path / "file" / "work")])
    assert done.exit_code == 2
    assert "cannot be made: Not a directory" in done.output


def test_every_data_set_has_a_size_and_splits_to_evaluate_on() -> None:
    assert set(EVALUATED) == set(_SIZES) == set(DATASET_NAMES)
