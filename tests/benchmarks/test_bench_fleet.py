"""``bench fleet``: boards that learn together against boards that learn alone, on small scenes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_bench_base import SIZE, write

from dance_ondevice.benchmarks.fleet import run
from dance_ondevice.benchmarks.fleet.board import LearningBoard
from dance_ondevice.benchmarks.fleet.exchange import Exchange
from dance_ondevice.benchmarks.fleet.page import lines
from dance_ondevice.benchmarks.fleet.report import FleetReport
from dance_ondevice.benchmarks.fleet.run import LATE
from dance_ondevice.benchmarks.result import as_body, read_result
from dance_ondevice.daemon.cli import main
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models import checkpoint, registry
from dance_ondevice.models.card import ModelCard

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread_one_seed")]


NOTHING = "fleet, all or nothing"
#: One of each kind.
ARMS = (
    "alone",
    "fleet, own late layers",
    "fleet, all or nothing",
    "fleet, whole models",
    "fleet, one board mislabelled",
    "all data",
)


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for drive, count in (("0001TP", 14), ("0006R0", 15), ("0016E5", 28)):
        for number in range(count):
            write(tmp_path / "camvid", "train", f"{drive}_{number:03d}", n_classes=11, seed=number)
    built = {"downsample": [8, 8, 16], "bottlenecks": [16, 16, 24], "repeats": [1, 1, 1], "fusion": 16}
    card = ModelCard(architecture="fastscnn", arguments=built, classes=STREET_CLASSES, macs_at=SIZE)
    checkpoint.save(tmp_path / "base", registry.build("fastscnn", 11, built), card)
    monkeypatch.setattr(run, "_CUTS", 1)
    # With a board of wrong labels, whose gate refuses what the others would have it take.
    ways = dict(run.ARMS)
    ways[NOTHING] = replace(ways[NOTHING], last="mislabelled")
    monkeypatch.setattr(run, "ARMS", ways)
    monkeypatch.setattr("dance_ondevice.benchmarks.fleet.board._BATCHES", 1)
    # What one step on noise does to a gate is left to no chance: the last board refuses all of each version.
    judge = Exchange._judge

    def refuse(self: Exchange, board: LearningBoard, *found: Any) -> bool:
        folder, before, after, share = found
        worse = share == 1 and board.scene.name == "same street"
        return judge(self, board, folder, before, before - 0.02 if worse else after, share)

    monkeypatch.setattr(Exchange, "_judge", refuse)
    return [
        *("bench", "fleet", "--dataset", "camvid", "--root", str(tmp_path / "camvid")),
        *("--model", str(tmp_path / "base"), "--seeds", "1", "--rounds", "2", "--steps", "1"),
        *(word for arm in ARMS for word in ("--arm", arm)),
        *("--root-steps", "1", "--scale", "0.2", "--work", str(tmp_path / "work")),
        *("--out", str(tmp_path / "out.json"), "--json"),
    ]


def test_compares_boards_that_learn_alone_together_and_in_one_place(
    arguments: list[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    report = as_body(read_result(tmp_path / "out.json"), FleetReport)
    assert list(report.variants) == list(ARMS)
    assert (report.boards, report.seed) == (3, 0)
    assert report.late_layers == list(LATE["fastscnn"])
    for name, variant in report.variants.items():
        boards = variant.runs[0].boards
        assert [board.name for board in boards] == ["dusk", "other street", "same street"]
        together = name.startswith("fleet")
        for board in boards:
            assert all(0 <= figure <= 1 for figure in (board.own, board.union, board.unseen))
            assert board.macs > board.fleet_macs
            assert bool(board.fleet_macs) is bool(board.sent) is bool(board.received) is together
            whole = [j for j in board.judgements if j.share == 1]
            assert board.taken + board.refused == len(whole) <= 2
            half = [j.version for j in board.judgements if j.share == 0.5]
            refused = [j.version for j in whole if not j.taken]
            assert half == ([] if name == NOTHING else refused)
            assert refused or not board.apart, "it shows what a refusal leads to"
            assert all(j.taken == (j.gate_after >= j.gate_before - 0.01) for j in board.judgements)
            wrong = "mislabelled" in name or name == NOTHING
            assert board.apart is (wrong and board is boards[-1])
        assert variant.own == [board.own for board in boards if not board.apart]
        assert bool(variant.bytes) is together
        assert variant.joules > 0
    runs = [variant.runs[0].boards for variant in report.variants.values()]
    small, large = (runs[n][0] for n in (1, 3))
    assert 2 * small.sent < large.sent
    assert 2 * small.received < large.received
    alone, everything = runs[0], runs[-1]
    assert [b.macs for b in alone] == [b.macs for b in everything]
    page = "\n".join(lines(report))
    for name in ARMS:
        assert f"| {name} |" in page
    assert ("allowance" in page) is any(b.judgements for boards in runs for b in boards)

    # Finished runs are not measured again.
    (tmp_path / "base" / "model.safetensors").unlink()
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["variants"] == json.loads(done.stdout)["variants"]


def test_a_folder_of_another_kind_is_refused(arguments: list[str], tmp_path: Path) -> None:
    for image in (tmp_path / "camvid" / "train").glob("0001TP*"):
        image.unlink()
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "0001TP" in done.output
