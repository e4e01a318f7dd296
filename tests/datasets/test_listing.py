"""Listing images and labels of one's own folders."""

from __future__ import annotations

from pathlib import Path

from dance_ondevice.datasets.idd_lite import is_flat
from dance_ondevice.datasets.listing import in_folders


def test_what_macos_writes_beside_each_file_is_no_image(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    for folder, ending in ((images, ".JPG"), (labels, ".png")):
        folder.mkdir()
        for name in ("a1", "._a1", ".a2"):
            (folder / f"{name}{ending}").touch()
    assert [item.image.name for item in in_folders(images, labels)[0]] == ["a1.JPG"]
    for name in ("d012_024541.jpg", "._d012_024541.jpg"):
        (tmp_path / name).touch()
    assert is_flat(tmp_path)
