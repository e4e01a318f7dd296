from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dance_ondevice.daemon.planning import anchors
from dance_ondevice.images.codec import decode_label, encode_jpeg, encode_png

IMAGE = np.full((6, 8, 3), 90, np.uint8)


def put(folder: Path, name: str, label: int | None, *, image: str, labels: str) -> None:
    for part in (image, labels):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / image / f"{name}.jpg").write_bytes(encode_jpeg(IMAGE))
    if label is not None:
        (folder / labels / f"{name}.png").write_bytes(encode_png(np.full((6, 8), label, np.uint8)))


def test_two_folders_and_an_image_without_a_label_is_none(tmp_path: Path) -> None:
    put(tmp_path, "a", 1, image="images", labels="labels")
    put(tmp_path, "b", None, image="images", labels="labels")
    assert anchors.names(str(tmp_path)) == ["a"]
    (sample,) = anchors.job_samples(str(tmp_path), ["front-1-1", "anchor:a"], tmp_path / "cache")
    assert (sample.id, sample.weight) == ("anchor:a", 1.0)
    assert Path(sample.image).is_file()
    assert Path(sample.label).is_file()


def test_camvid_and_what_it_calls_unlabelled_is_ignored(tmp_path: Path) -> None:
    put(tmp_path / "camvid", "0001TP_000001", 11, image="train", labels="trainannot")
    put(tmp_path / "camvid", "0001TP_000002", 3, image="train", labels="trainannot")
    names = anchors.names(str(tmp_path / "camvid"))
    assert names == ["0001TP_000001", "0001TP_000002"]
    first, second = anchors.job_samples(
        str(tmp_path / "camvid"), [f"anchor:{name}" for name in names], tmp_path / "cache"
    )
    assert (decode_label(Path(first.label).read_bytes()) == 255).all()
    assert (decode_label(Path(second.label).read_bytes()) == 3).all()


def test_no_folder_no_anchors_and_another_layout_says_what_was_expected(tmp_path: Path) -> None:
    assert anchors.names("") == []
    assert anchors.job_samples("", ["front-1-1"], tmp_path) == ()
    with pytest.raises(anchors.AnchorError, match="images and labels"):
        anchors.names(str(tmp_path))
