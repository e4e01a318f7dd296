"""``bench blend``: the blend that the service chooses beside all others."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from small_models import SMALL

from dance_ondevice.benchmarks.blend.report import BlendReport
from dance_ondevice.benchmarks.result import as_body, read_result
from dance_ondevice.benchmarks.tables import render
from dance_ondevice.conditions.agreement import MARGIN
from dance_ondevice.daemon.cli import main
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.registry import build

SIZE = (48, 64)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A drive of 21 frames and one of 5."""
    camera = StreetCamera(seed=3, height=SIZE[0], width=SIZE[1])
    for folder in ("train", "trainannot"):
        (tmp_path / "camvid" / folder).mkdir(parents=True)
    for drive, count in (("0001TP", 21), ("0006R0", 5)):
        for frame in range(count):
            image, label = camera.render(5 * frame, "dusk")
            for folder, data, suffix in (
                ("train", encode_jpeg(image), "jpg"),
                ("trainannot", encode_png(label), "png"),
            ):
                (tmp_path / "camvid" / folder / f"{drive}_f{frame:05d}.{suffix}").write_bytes(data)
    return tmp_path / "camvid"


@pytest.mark.usefixtures("one_thread_one_seed")
def test_blends_are_scored_on_later_images_of_long_drives(tmp_path: Path, root: Path) -> None:
    card = ModelCard(
        architecture="fastscnn", arguments=SMALL["fastscnn"], classes=STREET_CLASSES, macs_at=SIZE
    )
    checkpoint.save(tmp_path / "base", build("fastscnn", len(STREET_CLASSES), SMALL["fastscnn"]), card)
    out = tmp_path / "blend.json"
    words = ["bench", "blend", "--dataset", "camvid", "--root", str(root), "--model", str(tmp_path / "base")]
    done = CliRunner().invoke(main, [*words, "--images", "4", "--out", str(out)])

    assert done.exit_code == 0, done.output
    drives = as_body(read_result(out), BlendReport).drives
    assert list(drives) == ["0001TP"]
    drive = drives["0001TP"]
    assert (drive.measured, drive.scored) == (10, 4)
    assert list(drive.blends) == ["0", "0.25", "0.5", "most", "1"]
    agreements = {key: each.agreement for key, each in drive.blends.items() if each.agreement is not None}
    assert "1" not in agreements
    assert agreements[drive.chosen] >= max(agreements.values()) - MARGIN
    assert len({each.confidence for each in drive.blends.values()}) == 5
    assert "Statistics without labels, fastscnn" in render(tmp_path)

    short = CliRunner().invoke(main, [*words, "--split", "trainshort"])
    assert short.exit_code == 2
    for number in range(8):
        (root / "train" / f"0001TP_f{number:05d}.jpg").unlink()
    few = CliRunner().invoke(main, words)
    assert few.exit_code == 1
    assert "needs 20 images" in few.output
