"""``bench base``: what a base is worth on cameras it has never seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dance_ondevice.benchmarks.base import sites
from dance_ondevice.benchmarks.base.page import lines
from dance_ondevice.benchmarks.base.report import BaseReport
from dance_ondevice.benchmarks.result import as_body, read_result
from dance_ondevice.daemon.cli import main
from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models import checkpoint, registry
from dance_ondevice.models.card import ModelCard

SIZE = (48, 64)


def write(folder: Path, part: str, name: str, *, n_classes: int, seed: int) -> None:
    """An image of stripes, and the stripes' classes."""
    rng = np.random.default_rng(seed)
    label = np.repeat(rng.integers(0, n_classes, SIZE[0] // 8), 8)[:, None].repeat(SIZE[1], axis=1)
    label = label.astype(np.uint8)
    image = np.stack([label * 20] * 3, axis=2)
    for kind, data, suffix in (("", encode_jpeg(image), "jpg"), ("annot", encode_png(label), "png")):
        (folder / f"{part}{kind}").mkdir(parents=True, exist_ok=True)
        (folder / f"{part}{kind}" / f"{name}.{suffix}").write_bytes(data)


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    for part, count in (("train", 70), ("val", 2), ("test", 2)):
        for number in range(count):
            write(tmp_path / "camvid", part, f"0006R0_{number:03d}", n_classes=11, seed=number)
    return tmp_path / "camvid"


@pytest.fixture
def idd(tmp_path: Path) -> Path:
    for drive in range(100):
        for frame in range(2):
            write(tmp_path / "idd", "train", f"d{drive:03d}_{frame:06d}", n_classes=7, seed=drive)
    return tmp_path / "idd"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    arguments = {"downsample": [8, 8, 16], "bottlenecks": [16, 16, 24], "repeats": [1, 1, 1], "fusion": 16}
    card = ModelCard(
        version="small", architecture="fastscnn", arguments=arguments, classes=STREET_CLASSES, macs_at=SIZE
    )
    checkpoint.save(tmp_path / "base", registry.build("fastscnn", 11, arguments), card)
    return tmp_path / "base"


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread_one_seed")
def test_every_start_and_number_of_labels_is_measured_once(
    tmp_path: Path, camvid: Path, idd: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_CAMVID_SIZE", "_IDD_SIZE"):
        monkeypatch.setattr(sites, name, SIZE)
    out, work = tmp_path / "base.json", tmp_path / "work"
    command = [
        *("bench", "base", "--camvid", str(camvid), "--idd", str(idd), "--model", str(base)),
        *("--seeds", "1", "--steps", "1", "--labels", "0", "--labels", "5", "--work", str(work)),
        *("--out", str(out)),
    ]
    first = CliRunner().invoke(main, command)
    report = as_body(read_result(out), BaseReport)
    again = CliRunner().invoke(main, command)

    assert first.exit_code == 0, first.output
    assert again.stdout == first.stdout
    assert "seed=0" in first.stderr
    assert "seed=0" not in again.stderr
    assert [site.name for site in report.sites] == ["camvid", "idd-lite"]
    for site in report.sites:
        assert [(t.start, t.learning_rate, t.labels) for t in site.trained] == [
            ("noise", 0.0, 0),
            ("noise", 0.001, 5),
            ("noise", 0.005, 5),
            ("base", 0.0, 0),
            ("base", 0.001, 5),
        ]
        assert {t.training_macs for t in site.trained if t.labels} == {site.trained[1].training_macs}
        assert all(0 <= score.miou <= 1 for t in site.trained for score in t.scores)
    assert "**idd-lite**" in "\n".join(lines(report))
    about = json.loads(out.read_text())["about"]
    assert about["benchmark"] == "base"
    assert str(tmp_path) not in json.dumps(about)


def test_frames_of_a_drive_that_is_measured_on_teach_nothing(idd: Path) -> None:
    place = sites.idd_place(idd)
    taught = {sample.image.stem.split("_")[0] for sample in place.teach}
    measured = {sample.image.stem.split("_")[0] for sample in place.measure["other drives"]}

    assert taught
    assert measured
    assert not taught & measured
    assert len(measured) == len(place.measure["other drives"])


def test_a_folder_that_is_something_else_is_refused(tmp_path: Path, idd: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(
        main, ["bench", "base", "--camvid", str(tmp_path / "empty"), "--idd", str(idd)]
    )

    assert result.exit_code == 1
    assert "holds no JPEG images" in result.stderr
