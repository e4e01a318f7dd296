"""The examples of the documentation are run: a sender, a subscriber, a NetGear sender, one's own data."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq
from click.testing import CliRunner
from daemon_process import Camera, Daemon, config_text
from ingest_harness import PATIENCE, jpeg, picture, running

from dance_ondevice.daemon.cli import main
from dance_ondevice.daemon.config.load import load
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.publisher import MaskPublisher
from dance_ondevice.images.codec import encode_png
from dance_ondevice.models.card import read_card

pytestmark = pytest.mark.slow
DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = DOCS / "examples"


def example(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_sender_of_forty_lines(store: Store, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(jpeg())
    (tmp_path / "images" / "b.png").write_bytes(encode_png(picture(1)))
    (tmp_path / "images" / "notes.txt").touch()
    with running(store) as harness:
        done = example("sender.py", "images", harness.endpoint, "yard", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.split()[:2] for line in done.stdout.splitlines()] == [
            ["a.jpg", "kept"],
            ["b.png", "kept"],
        ]

        (tmp_path / "images" / "c.jpg").write_bytes(b"no image")
        assert example("sender.py", "images", harness.endpoint, "yard", cwd=tmp_path).returncode == 1
        assert harness.recorder.frames == {("yard", "kept"): 4, ("yard", "rejected"): 1}


def test_a_sender_by_netgear(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("vidgear.gears.netgear", reason="vidgear needs Python 3.11")
    video = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(3):
        video.write(picture(number))
    video.release()
    with running(store) as harness:
        port = harness.endpoint.rpartition(":")[2]
        done = example("netgear_sender.py", "a.avi", "127.0.0.1", port, "yard", cwd=tmp_path)

        assert done.returncode == 0, done.stderr
        assert harness.recorder.frames == {("yard", "kept"): 3}
        assert [line.split()[0] for line in done.stdout.splitlines()] == ["kept"] * 3


def test_the_example_of_the_library_measures_a_frame(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "library.md").read_text(), re.DOTALL)
    (tmp_path / "frame.jpg").write_bytes(jpeg())
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Complexity(score=0.")


def test_a_subscriber_with_names_and_colours(tmp_path: Path) -> None:
    mask = np.array([[0, 0, 0, 1], [1, 255, 0, 0]], np.uint8)
    with zmq.Context() as context:
        publisher = MaskPublisher(context, "tcp://127.0.0.1:*")
        command = [sys.executable, str(EXAMPLES / "subscriber.py"), publisher.endpoint, "front", "1"]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            # As the daemon does: the classes to whoever comes, and masks as they are made.
            while process.poll() is None:
                if publisher.newcomers():
                    publisher.send(wire.classes_message("front", ("sky", "building"), "v0001"))
                publisher.send(mask_of("front", mask))
            assert process.stdout is not None
            told = process.stdout.read()
        publisher.close()

    assert told == "front 7: sky 62%, building 25%\n"
    painted = cv2.imread(str(tmp_path / "mask.png"))
    assert painted[0, 0].tolist() == [128, 128, 128]
    assert painted[0, 3].tolist() == [0, 0, 128]
    assert painted[1, 1].tolist() == [0, 0, 0]


def mask_of(camera: str, mask: np.ndarray) -> Sequence[bytes]:
    return wire.mask_message(
        frame_id=f"{camera}-1-7",
        camera=camera,
        seq=7,
        captured_at=1.0,
        model_version="v0001",
        scale=1.0,
        latency_s=0.1,
        mean_confidence=0.9,
        mask_png=encode_png(mask),
    )


def own_folders(folder: Path, classes: int, count: int = 10) -> None:
    """Images and labels of one's own."""
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for number in range(count):
        label = np.repeat(random.integers(0, classes, (6, 8), dtype=np.uint8), 8, axis=0).repeat(8, axis=1)
        (folder / "images" / f"north_{number:06d}.jpg").write_bytes(jpeg(number))
        (folder / "labels" / f"north_{number:06d}.png").write_bytes(encode_png(label))
    (folder / "images" / "unlabelled.jpg").write_bytes(jpeg(99))


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def test_from_a_folder_to_a_served_model_of_ones_own_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's own configurations and commands, with the page's own network."""
    monkeypatch.delenv("DANCE_MODEL_PATH", raising=False)
    page = (DOCS / "your-own-data.md").read_text()
    (with_factory,) = re.findall(r"```toml\n([^`]*factory = [^`]*)```", page)
    daemon = Daemon(tmp_path, inference=True)
    own_folders(tmp_path, classes=3)
    shutil.copy(EXAMPLES / "tiny_unet.py", tmp_path)
    text = (
        config_text(inference=True)
        .replace("[model]\nsize = [64, 48]\n", with_factory)
        .replace('weights = "untrained"\n', "")
    )
    text = text.replace("size = [320, 240]", "size = [64, 48]")
    daemon.config.write_text(text)

    assert "valid" in run("config", "check", "--config", str(daemon.config))
    command = re.findall(r"^dance-ondevice (pretrain .*)$", page, re.M)[0].split()
    monkeypatch.chdir(tmp_path)
    quick = ("--epochs", "1", "--precision", "fp32", "--json")
    made = json.loads(CliRunner().invoke(main, [*command, *quick]).stdout)["training"]
    card = read_card(tmp_path / "base")
    assert (card.factory, card.classes) == ("tiny_unet:build", ("ballast", "rail", "person"))
    assert card.macs_at == (48, 64)
    assert (made["samples"], made["validation"]["held out"]["samples"]) == (8, 2)

    daemon.config.write_text(text.replace('factory = "tiny', 'weights = "base"\nfactory = "tiny'))
    assert load(daemon.config).config.model.weights
    monkeypatch.chdir(DOCS)  # anywhere else
    daemon.start()
    camera = Camera(daemon.facts["ingest"][0])
    try:
        status: dict[str, Any] = daemon.ask("status")
        assert status["architecture"] == "tiny_unet:build"
        (listed,) = json.loads(run("models", "list", "--json", "--state-dir", str(daemon.state)))
        assert listed["architecture"] == "tiny_unet:build"
        assert status["classes"] == ["ballast", "rail", "person"]
        assert len(status["palette"]) == 3
        assert camera.send(0, labelled=False)["ok"]
        daemon.wait_until(lambda status: status["inference"]["masks"])
    finally:
        camera.close()
        assert daemon.stop() == 0

    # The network's file is gone: the service says so in one line and ends with 78.
    (tmp_path / "tiny_unet.py").unlink()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    daemon.log.write_text("")
    assert daemon.launch().running.wait(PATIENCE * 6) == 78
    (line,) = [line for line in daemon.log.read_text().splitlines() if "model.factory" in line]
    assert "cannot import tiny_unet" in line
    assert "Traceback" not in daemon.log.read_text()
