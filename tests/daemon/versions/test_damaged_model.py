"""A daemon whose live model was damaged on the disk comes up with the one before, and says so."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_process import Daemon, plant_model

pytestmark = pytest.mark.slow


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    started: list[Daemon] = []

    def start(**settings: Any) -> Daemon:
        started.append(Daemon(tmp_path, **settings))
        return started[-1].start()

    yield start
    for daemon in started:
        daemon.stop(signal.SIGKILL)


@pytest.mark.parametrize("inference", [True, False])
def test_flipped_bits_fall_back_to_the_version_before(
    launch: Callable[..., Daemon], tmp_path: Path, inference: bool
) -> None:
    models = tmp_path / "state" / "models"
    plant_model(tmp_path / "state")
    shutil.copytree(models / "v0001", models / "v0002")
    tensors = models / "v0002" / "model.safetensors"
    content = bytearray(tensors.read_bytes())
    content[len(content) // 2] ^= 0x10
    tensors.write_bytes(content)
    (models / "live.json").write_text(
        json.dumps({"version": "v0002", "previous": "v0001", "frozen": "v0001"})
    )
    status = launch(inference=inference).ask("status")
    assert status["version"] == "v0001"
    (warning,) = [each for each in status["warnings"] if "v0002" in each]
    assert "does not load" in warning
    assert "v0001 is live in its place" in warning
    assert json.loads((models / "live.json").read_bytes())["version"] == "v0001"
