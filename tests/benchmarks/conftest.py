"""Images that several benchmarks are tried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import encode_jpeg, encode_png

HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope="session")
def camvid_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten training images of 64x96, two to validate and two to test, in CamVid's layout; only to be read."""
    root = tmp_path_factory.mktemp("camvid")
    camera = StreetCamera(seed=3, height=HEIGHT, width=WIDTH)
    for split, frames in (("train", range(0, 50, 5)), ("val", (100, 110)), ("test", (200, 210))):
        (root / split).mkdir()
        (root / f"{split}annot").mkdir()
        for frame in frames:
            image, label = camera.render(frame, "day")
            (root / split / f"0006R0_f{frame:05d}.jpg").write_bytes(encode_jpeg(image))
            (root / f"{split}annot" / f"0006R0_f{frame:05d}.png").write_bytes(encode_png(label))
    return root
