from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
from stored import new_sample, rows, with_store

from dance_ondevice.daemon.config.sections import Config, Training
from dance_ondevice.daemon.doctor.stored import check_anchors, check_samples, check_versions
from dance_ondevice.daemon.store.reconcile import reconcile
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images.codec import encode_jpeg, encode_png


def test_stored_files_that_are_gone_cut_or_zeroed_are_named(paths: StatePaths) -> None:
    assert check_samples(paths) is None
    with_store(paths, lambda store: [store.add_sample(new_sample(seq, label=(1,))) for seq in range(4)])
    found = check_samples(paths)
    assert found is not None
    assert found.status == "ok"
    stored = [paths.root / row["path"] for row in rows(paths).values()]
    stored[0].unlink()
    stored[1].write_bytes(stored[1].read_bytes()[:-40])
    stored[2].write_bytes(bytes(stored[2].stat().st_size))
    found = check_samples(paths)
    assert found is not None
    assert found.status == "warning"
    assert found.detail.startswith("3 of 4 cannot be read")
    assert all(path.stem in found.detail for path in stored[:3])
    assert "purge --unreadable" in found.remedy


def test_a_start_marks_a_damaged_image_and_lets_a_mended_one_serve_again(paths: StatePaths) -> None:
    with_store(paths, lambda store: store.add_sample(new_sample(0, label=(1,))))
    (row,) = rows(paths).values()
    image = paths.root / row["path"]
    data = image.read_bytes()
    image.write_bytes(data[: len(data) // 2])
    assert reconcile(paths).unreadable == 1
    assert str(image) in rows(paths)[row["id"]]["unreadable"]
    found = check_samples(paths)
    assert found is not None
    assert image.stem in found.detail
    image.write_bytes(data)
    assert reconcile(paths).unreadable == 0
    assert rows(paths)[row["id"]]["unreadable"] is None


def test_anchors_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    config = msgspec.structs.replace(Config(), training=Training(anchors=str(tmp_path / "anchors")))
    assert check_anchors(Config(), tmp_path / "cache") is None
    found = check_anchors(config, tmp_path / "cache")
    assert found is not None
    assert found.status == "failure"
    for name, suffix, data in (
        ("images", "jpg", encode_jpeg(np.full((6, 8, 3), 90, np.uint8))),
        ("labels", "png", encode_png(np.zeros((6, 8), np.uint8))),
    ):
        (tmp_path / "anchors" / name).mkdir(parents=True)
        for index in range(4):
            (tmp_path / "anchors" / name / f"a{index}.{suffix}").write_bytes(data)
    found = check_anchors(config, tmp_path / "cache")
    assert found is not None
    assert found.status == "ok"
    image = tmp_path / "anchors" / "images" / "a1.jpg"
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    foreign = tmp_path / "anchors" / "labels" / "a2.png"
    foreign.write_bytes(encode_png(np.full((6, 8), 200, np.uint8)))
    found = check_anchors(config, tmp_path / "cache")
    assert found is not None
    assert found.status == "warning"
    assert found.detail.startswith("2 of 4")
    assert str(image) in found.detail
    assert str(foreign) in found.detail


def test_a_version_without_its_card_or_with_other_tensors_is_named(paths: StatePaths) -> None:
    assert check_versions(paths) is None
    for version in ("v0001", "v0002"):
        folder = paths.models / version
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"tensors")
        digest = hashlib.sha256(b"tensors").hexdigest()
        (folder / "card.json").write_text(json.dumps({"sha256": digest}))
    paths.live_file.write_text('{"version": "v0001"}')
    found = check_versions(paths)
    assert found is not None
    assert found.status == "ok"
    (paths.models / "v0002" / "card.json").write_text("{")
    found = check_versions(paths)
    assert found is not None
    assert (found.status, "v0002" in found.detail) == ("warning", True)
    (paths.models / "v0001" / "model.safetensors").write_bytes(b"other")
    found = check_versions(paths)
    assert found is not None
    assert (found.status, "v0001 is live" in found.remedy) == ("failure", True)
