from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from dance_ondevice.benchmarks import indicators
from dance_ondevice.benchmarks.indicators import (
    FROM_MASKS,
    LABEL,
    MIRRORED,
    UNCERTAINTY,
    Bench,
    learn,
    measure_indicators,
)
from dance_ondevice.benchmarks.indicators_report import IndicatorResult, IndicatorsReport
from dance_ondevice.benchmarks.result import as_body, read_result
from dance_ondevice.benchmarks.scale_choice import AT_RANDOM, ONE_SCALE, by_rank, same_cost
from dance_ondevice.complexity import INDICATORS, Indicator
from dance_ondevice.daemon.cli import main
from dance_ondevice.datasets.camvid import camvid, read_label
from dance_ondevice.datasets.listing import LabelledImage
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.registry import build

SCALES = (0.75, 0.5)
CARD = ModelCard(classes=("dark", "bright"), macs_at=(32, 32), architecture="threshold", version="v")


class Threshold(nn.Module):
    """Bright or dark, sure of itself in proportion to the distance from grey."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        luma = x.mean(dim=1, keepdim=True) * self.gain
        return torch.cat([-luma, luma], dim=1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(indicators, "_TIMED_CALLS", 2)


def write(root: Path, number: int, bgr: np.ndarray, label: np.ndarray) -> None:
    for folder, name, data in (
        ("test", f"A_{number}.png", encode_png(bgr)),
        ("testannot", f"A_{number}.png", encode_png(label)),
    ):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / name).write_bytes(data)


@pytest.fixture
def stripes(tmp_path: Path) -> list[LabelledImage]:
    """Six images, each with more one-pixel stripes than the one before, which any downsampling destroys."""
    for number in range(6):
        label = np.zeros((64, 96), np.uint8)
        label[:, 80:] = 1
        label[:, : number * 12 : 2] = 1
        write(tmp_path, number, cv2.merge([np.where(label, 230, 20).astype(np.uint8)] * 3), label)
    return camvid(tmp_path, ("test",))


def bench() -> Bench:
    return Bench(
        model=Threshold().eval(),
        card=CARD,
        scales=SCALES,
        read_label=read_label,
        clock=itertools.count(0, 0.001).__next__,
    )


def measured(items: list[LabelledImage], learnt: Indicator | None = None) -> IndicatorsReport:
    return measure_indicators(
        bench(), items, learnt=learnt, dataset="camvid", split="test", learnt_from="others" if learnt else ""
    )


def test_losses_are_those_of_each_image_by_itself(stripes: list[LabelledImage]) -> None:
    report = measured(stripes)
    assert [loss.image for loss in report.losses] == [f"A_{number}.png" for number in range(6)]
    assert [loss.miou for loss in report.losses] == [1.0] * 6
    assert report.losses[0].loss == {"0.75": pytest.approx(0, abs=0.05), "0.5": pytest.approx(0, abs=0.05)}
    halves = [loss.loss["0.5"] for loss in report.losses]
    assert halves == sorted(halves)
    # All of the stripes come out as one class: half of their area is wrong.
    assert halves[-1] > 0.3
    assert report.miou["1"] == 1.0
    assert report.miou["0.5"] < 0.9


def test_ranks_are_compared_scale_by_scale(stripes: list[LabelledImage]) -> None:
    report = measured(stripes)
    assert set(report.indicators) == {*INDICATORS, LABEL, UNCERTAINTY, MIRRORED}
    assert report.indicators["detail_loss"].rho["0.5"] == pytest.approx(1.0)
    assert report.indicators[LABEL].rho["0.5"] == pytest.approx(1.0)
    assert report.indicators[MIRRORED].rho["0.5"] == pytest.approx(1.0)
    judged = [found.rho["0.5"] for found in report.indicators.values()]
    ranked = [rho for rho in judged if rho is not None]
    assert ranked == sorted(ranked, reverse=True)
    assert judged[: len(ranked)] == ranked


def test_what_is_learnt_from_other_images_ranks_these(stripes: list[LabelledImage]) -> None:
    found = learn(bench(), stripes[::2])
    assert found.name == "learnt_loss"
    report = measured(stripes[1::2], learnt=found)
    assert report.indicators["learnt_loss"].rho["0.5"] == pytest.approx(1.0)
    assert report.indicators["learnt_loss"].microseconds is not None
    assert report.learnt_from == "others"


def test_each_drive_is_scored_by_what_the_others_taught(stripes: list[LabelledImage]) -> None:
    drives = ["a", "a", "b", "b", "c", "c"]
    report = measure_indicators(
        bench(), stripes, apart=drives, dataset="camvid", split="test", learnt_from="test, apart"
    )
    judged = report.indicators["learnt_loss"]
    assert judged.rho["0.5"] is not None
    assert judged.rho["0.5"] > 0.5
    assert judged.microseconds is not None
    seen = report.indicators[FROM_MASKS]
    assert seen.needs == "an inference at full size"
    assert seen.microseconds == report.indicators[UNCERTAINTY].microseconds
    assert seen.rho["0.5"] is not None
    assert seen.rho["0.5"] > 0.5  # the bright share grows with the stripes


def test_scales_are_worth_most_where_they_go_to_what_loses_least(stripes: list[LabelledImage]) -> None:
    served = measured(stripes).served
    assert set(served) == {*INDICATORS, LABEL, UNCERTAINTY, AT_RANDOM, ONE_SCALE}
    assert served["detail_loss"] > served[AT_RANDOM]
    assert same_cost((1.0, 0.75, 0.5)) == pytest.approx(0.7773, abs=1e-4)
    assert by_rank([0.3, 0.1, 0.2, 0.5, 0.4, 0.0], (1.0, 0.75, 0.5)) == [0.75, 0.5, 0.75, 1.0, 1.0, 0.5]


def test_times_are_medians_of_the_clock_and_fractions_of_a_grey_decode(stripes: list[LabelledImage]) -> None:
    report = measured(stripes)
    assert report.grey_decode_microseconds == pytest.approx(1000)
    for name, found in report.indicators.items():
        if name == MIRRORED:
            assert (found.microseconds, found.of_grey_decode, found.on_target) == (None, None, False)
        else:
            assert (found.microseconds, found.of_grey_decode) == (pytest.approx(1000), pytest.approx(1.0))


def test_opencv_keeps_its_threads(stripes: list[LabelledImage]) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        measured(stripes[:2])
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize(
    ("rho", "share", "met"),
    [(0.8, 0.2, True), (0.79, 0.1, False), (0.9, 0.21, False), (None, 0.1, False), (0.9, None, False)],
)
def test_the_target_is_of_rank_and_of_time(rho: float | None, share: float | None, met: bool) -> None:
    found = IndicatorResult(needs="", rho={"0.75": 0.0, "0.5": rho}, microseconds=1.0, of_grey_decode=share)
    assert found.on_target is met


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A folder in CamVid's layout with three frames of the synthetic street."""
    root = tmp_path / "street"
    root.mkdir()
    camera = StreetCamera(seed=1, height=96, width=128)
    for number in range(3):
        bgr, label = camera.render(number * 40)
        write(root, number, bgr, label)
    (root / "test" / "A_0.png").unlink()
    (root / "test" / "A_0.jpg").write_bytes(encode_jpeg(camera.render(0)[0]))
    return root


@pytest.fixture
def base(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = build("fastscnn", len(STREET_CLASSES))
    card = ModelCard(classes=STREET_CLASSES, architecture="fastscnn", macs_at=(96, 128))
    checkpoint.save(tmp_path / "base", model, card)
    return tmp_path / "base"


@pytest.mark.slow
def test_the_command_prints_and_writes_the_result(street: Path, base: Path, tmp_path: Path) -> None:
    arguments = ["bench", "indicators", "--dataset", "camvid", "--root", str(street), "--model", str(base)]
    out = tmp_path / "r.json"
    shutil.copytree(street / "test", street / "train")
    shutil.copytree(street / "testannot", street / "trainannot")
    done = CliRunner().invoke(main, [*arguments, "--out", str(out), "--note", "a tiny street"])
    assert done.exit_code == 0, done.output
    result = read_result(out)
    assert result.about.benchmark == "indicators"
    assert result.about.command == (
        "dance-ondevice bench indicators --dataset camvid --root DIR --model BASE --split test "
        "--learn-from train"
    )
    assert result.about.data == "camvid, test, 3 images"
    assert result.about.note == "a tiny street"
    assert str(tmp_path) not in out.read_text()
    report = as_body(result, IndicatorsReport)
    assert len(report.losses) == 3
    assert set(report.indicators) >= {*INDICATORS, "learnt_loss"}
    assert report.learnt_from == "train, 3 images"
    assert all(name in done.output for name in report.indicators)
    done = CliRunner().invoke(main, [*arguments, "--learn-from", "", "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert "learnt_loss" not in printed["indicators"]
    assert printed["losses"] == json.loads(out.read_bytes())["losses"]


def test_wrong_usage_is_told(street: Path, base: Path, tmp_path: Path) -> None:
    def invoke(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["bench", "indicators", "--learn-from", "", *arguments])
        assert done.exit_code == 2, done.output
        return " ".join(done.stderr.split())

    model = ("--model", str(base))
    assert "no folder" in invoke("--dataset", "camvid", "--root", str(tmp_path), *model)
    root = ("--root", str(street))
    assert "class_dict.csv" in invoke("--dataset", "camvid32", *root, *model)
    assert "cannot read the model card" in invoke("--dataset", "camvid", *root, "--model", str(street))
    assert "is no folder" in invoke("--dataset", "camvid", *root, *model, "--out", str(tmp_path / "no" / "r"))
    learn = ("--dataset", "camvid", *root, *model, "--learn-from")
    assert "names the images that are measured on" in invoke(*learn, "test")
    assert "no folder" in invoke(*learn, "train")
    for name in ("A_1", "A_2"):
        (street / "few").mkdir(exist_ok=True)
        (street / "fewannot").mkdir(exist_ok=True)
        shutil.copy(street / "test" / f"{name}.png", street / "few")
        shutil.copy(street / "testannot" / f"{name}.png", street / "fewannot")
    assert "2 images are too few" in invoke(*learn, "few")
    (street / "test_labels").mkdir()
    (street / "class_dict.csv").write_text("name,r,g,b\nWall,1,2,3\n")
    for image in (street / "test").iterdir():
        (street / "test_labels" / f"{image.stem}_L.png").write_bytes(b"")
    assert "camvid32 has Wall" in invoke("--dataset", "camvid32", *root, *model)


def test_a_broken_image_is_failed_work(street: Path, base: Path) -> None:
    (street / "test" / "A_1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = CliRunner().invoke(
        main,
        [
            *("bench", "indicators", "--dataset", "camvid", "--root", str(street)),
            *("--model", str(base), "--learn-from", ""),
        ],
    )
    assert done.exit_code == 1
    assert "truncated" in done.stderr
