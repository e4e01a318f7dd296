"""One whole measurement on a tiny tree in CamVid's layout: real daemon, real sender, real round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dance_ondevice.benchmarks import first_round, tables
from dance_ondevice.daemon.cli import main
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images import codec as images
from dance_ondevice.images.labels import STREET_CLASSES

SIZE = (48, 64)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty-four dusk frames to stream and four to measure on."""
    street = StreetCamera(seed=5, height=SIZE[0], width=SIZE[1])
    for split, frames in (("train", range(0, 240, 10)), ("test", range(400, 440, 10))):
        for folder in (split, f"{split}annot"):
            (tmp_path / folder).mkdir()
        for index in frames:
            image, label = street.render(index, "dusk")
            name = f"0001TP_{index:06d}"
            (tmp_path / split / f"{name}.jpg").write_bytes(images.encode_jpeg(image))
            (tmp_path / f"{split}annot" / f"{name}.png").write_bytes(images.encode_png(label))
    return tmp_path


@pytest.mark.slow
def test_a_round_is_measured_and_shown(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = first_round.write_config

    def quick(file: Path, values: dict[str, dict[str, object]]) -> None:
        """No engine has to be exported for, and the round waits for no test of another process."""
        values["inference"]["engine"] = "torch"
        values["training"] |= {"priority": "normal", "threads": 1}
        write(file, values)

    monkeypatch.setattr(first_round, "write_config", quick)
    base, results = tmp_path / "base", tmp_path / "results"
    results.mkdir()
    first_model.main(["fastscnn", "", json.dumps(STREET_CLASSES), "0", "64", "48", str(base)])
    ran = CliRunner().invoke(
        main,
        [
            *("bench", "first-round", "--root", str(root), "--base", str(base)),
            *("--out", str(results / "round.json"), "--json"),
        ],
    )
    assert ran.exit_code == 0, ran.output
    report = json.loads((results / "round.json").read_bytes())
    assert report["frames"]["sent"] == 24
    assert report["frames"]["kept"] + report["frames"]["dropped"] == 24
    assert report["outcome"] in ("promoted", "rejected")
    assert report["before"]["version"] == "v0001"
    assert report["round"]["steps"] > 0
    assert report["round_cpu_seconds"] > 0
    if report["outcome"] == "promoted":
        assert report["after"]["version"] == "v0002"
        assert report["round_precision"] in ("fp32", "bf16")
        assert report["round"]["miou_after"] >= report["round"]["miou_before"]
    page = tables.render(results)
    assert f"{report['before']['miou']:.4f}" in page
    assert f"{report['after']['miou']:.4f}" in page
    assert "24 images with labels" in page


def test_a_folder_that_is_no_camvid_is_told(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["bench", "first-round", "--root", str(tmp_path), "--base", str(tmp_path)])
    assert ran.exit_code == 2
    assert "--root" in ran.output
