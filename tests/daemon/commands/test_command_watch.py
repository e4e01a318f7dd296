"""`dance-ondevice watch`: the latest mask over its frame, in a file."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import stored
import zmq

from dance_ondevice.daemon.control.instances import DaemonFile, write_daemon_file
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images.codec import decode_colour, encode_png
from dance_ondevice.images.labels import STREET_CLASSES, class_colours


@contextmanager
def publishing(sample: str) -> Iterator[str]:
    """Publishes one and the same mask until the end; yields where."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PUB)
    endpoint = f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"
    header = {"v": 1, "id": sample, "camera": "front", "captured_at": 5.0, "model_version": "v0001"}
    message = [b"mask/front", json.dumps(header).encode(), encode_png(np.full((240, 320), 3, np.uint8))]
    done = threading.Event()

    def publish() -> None:
        while not done.wait(0.02):
            socket.send_multipart(message)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield endpoint
    finally:
        done.set()
        thread.join()
        context.destroy(linger=0)


def colour(file: Path) -> tuple[int, ...]:
    return tuple(map(int, decode_colour(file.read_bytes())[5, 5][::-1]))


def test_a_stored_frame_shows_through_its_mask_and_another_is_its_colours_alone(
    run, paths: StatePaths, store: Store, tmp_path: Path
):
    sample = stored.new_sample(1)
    store.add_sample(sample).result(10)
    road = class_colours(len(STREET_CLASSES))[3]
    with publishing(sample.id) as endpoint:
        write_daemon_file(paths, DaemonFile(pid=1, control="ipc:///none", inference=endpoint))
        state = ("--state-dir", str(paths.root))
        output = run("watch", *state, "--count", "1", "--out", str(tmp_path / "one.png")).stdout
        assert "1 pictures" in output
        run("watch", *state, "--count", "1", "--out", str(tmp_path / "all"), "--http", "127.0.0.1:0")
    assert colour(tmp_path / "one.png") != road
    assert colour(tmp_path / "all" / "front.png") == colour(tmp_path / "one.png")
    with publishing("gone") as endpoint:
        run("watch", "--from", endpoint, "--count", "1", "--out", str(tmp_path / "far.png"))
    assert colour(tmp_path / "far.png") == class_colours(4)[3]


def test_one_camera_is_filmed_until_sigterm(tmp_path: Path):
    """As a process of its own, since it ends by a signal."""
    video = tmp_path / "evening.mp4"
    with publishing("gone") as endpoint:
        process = subprocess.Popen(
            [sys.executable, "-m", "dance_ondevice", "watch", "--from", endpoint, "--out", str(video)],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            assert "s of front in the video" in process.stderr.readline()
            process.terminate()
            told, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert f"pictures in {video}" in told
    there, picture = cv2.VideoCapture(str(video)).read()
    assert there
    assert picture[5, 5][::-1].tolist() == pytest.approx(class_colours(4)[3], abs=6)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--out", "masks.gif"), 2, "a .mp4 or .avi file"),
        (("--http", "0.0.0.0:8088"), 1, "no login"),
        (("--http", "8088"), 2, "HOST:PORT"),
        (("--from", "nowhere"), 1, "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(run, arguments: tuple[str, ...], code: int, words: str):
    more = () if "--from" in arguments else ("--from", "tcp://127.0.0.1:1")
    assert words in run("watch", *arguments, *more, code=code).stderr


def test_without_a_daemon_it_says_how_to_start_one(run, paths: StatePaths):
    assert "dance-ondevice run" in run("watch", "--state-dir", str(paths.root), code=1).stderr
