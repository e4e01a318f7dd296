"""The published imagezmq package, unmodified, as the sender."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
import zmq
from imagezmq import ImageSender
from ingest_harness import PATIENCE, Harness, jpeg, picture, running

from dance_ondevice.daemon.store.service import Store, open_reader
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images import codec as images

NOW = 1_760_000_000.25


def rows(paths: StatePaths) -> list[dict]:
    database = open_reader(paths)
    try:
        return list(database.query("select * from samples order by camera, seq"))
    finally:
        database.close()


def send(harness: Harness, action: Callable[[ImageSender], bytes]) -> bytes:
    """Run an action with a REQ sender, on a thread since an unanswered one would wait for ever."""
    answers: list[bytes] = []

    def act() -> None:
        with ImageSender(connect_to=harness.endpoint) as sender:
            sender.zmq_socket.linger = 0
            sender.zmq_socket.rcvtimeo = int(PATIENCE * 1000)
            answers.append(action(sender))

    thread = threading.Thread(target=act)
    thread.start()
    thread.join(2 * PATIENCE)
    assert answers, "no answer came"
    return answers[0]


def test_jpeg_in_req_mode(store: Store, paths: StatePaths) -> None:
    with running(store, clock=lambda: NOW) as harness:
        assert send(harness, lambda sender: sender.send_jpg("rpi-1", jpeg())) == b"OK"
    (row,) = rows(paths)
    assert (row["camera"], row["captured_at"], row["seq"]) == ("rpi-1", NOW, int(NOW * 1e6))
    assert (paths.root / row["path"]).read_bytes() == jpeg()


@pytest.mark.parametrize("colour", [True, False])
def test_array_in_req_mode(store: Store, paths: StatePaths, colour: bool) -> None:
    array = picture() if colour else picture()[:, :, 1]
    with running(store) as harness:
        assert send(harness, lambda sender: sender.send_image("rpi-1", array)) == b"OK"

        offered = harness.mailbox.take(PATIENCE)
        assert offered is not None
        bgr = np.frombuffer(offered.data, np.uint8).reshape(offered.raw_shape)
        assert (bgr == (array if colour else array[:, :, None])).all()
    (row,) = rows(paths)
    stored = images.decode_colour((paths.root / row["path"]).read_bytes())
    assert stored.shape == (48, 64, 3)
    assert np.abs(stored.astype(int) - bgr).mean() < 5


def test_array_that_is_not_contiguous(store: Store) -> None:
    with running(store) as harness:
        assert send(harness, lambda sender: sender.send_image("rpi-1", picture()[:, ::-1])) == b"OK"


def test_frames_are_numbered_by_camera(store: Store, paths: StatePaths) -> None:
    times = iter(NOW + n for n in range(100))
    with running(store, clock=lambda: next(times)) as harness:
        for number, camera in enumerate(("a", "b", "a", "a")):
            send(harness, lambda sender, c=camera, n=number: sender.send_jpg(c, jpeg(n)))
    found = [(row["camera"], row["seq"], row["captured_at"]) for row in rows(paths)]
    first, second = int(NOW * 1e6), int((NOW + 1) * 1e6)
    assert found == [
        ("a", first, NOW),
        ("a", first + 1, NOW + 2),
        ("a", first + 2, NOW + 3),
        ("b", second, NOW + 1),
    ]


def test_name_that_no_camera_may_have_is_made_one(store: Store) -> None:
    with running(store) as harness:
        assert send(harness, lambda sender: sender.send_jpg("kitchen|Pi Camera", jpeg())) == b"OK"
        assert harness.recorder.frames == {("kitchen_Pi_Camera", "kept"): 1}


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), b"float32"),
        (np.zeros((4, 4, 5), np.uint8), b"[4, 4, 5]"),
        (np.zeros(4, np.uint8), b"[4]"),
    ],
)
def test_bad_array_is_answered_in_words(store: Store, array: np.ndarray, words: bytes) -> None:
    with running(store) as harness:
        answer = send(harness, lambda sender: sender.send_image("rpi-1", array))

        assert answer.startswith(b"ERROR ")
        assert words in answer
        assert harness.recorder.frames == {("", "rejected"): 1}
        assert send(harness, lambda sender: sender.send_image("rpi-1", picture())) == b"OK"


def test_bad_jpeg_is_answered_in_words(store: Store) -> None:
    with running(store) as harness:
        assert send(harness, lambda sender: sender.send_jpg("rpi-1", b"00")).startswith(b"ERROR ")
        assert harness.recorder.refusals == {"image": 1}


@pytest.mark.parametrize("encoded", [True, False])
def test_pub_mode(store: Store, paths: StatePaths, encoded: bool, unused_port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{unused_port}"
    with ImageSender(connect_to=endpoint, REQ_REP=False) as sender:
        sender.zmq_socket.linger = 0
        with running(store, bind=(), subscribe=(endpoint,)) as harness:
            kept = harness.recorder.frames
            # A PUB cannot tell when somebody subscribed, so it sends until something arrives.
            for number in range(1000):
                if encoded:
                    sender.send_jpg("rpi-2", jpeg(number))
                else:
                    sender.send_image("rpi-2", picture(number))
                if harness.recorder.waits_for(lambda: kept["rpi-2", "kept"] >= 3, timeout=0.02):
                    break
            assert kept["rpi-2", "kept"] >= 3
    assert len(rows(paths)) == harness.recorder.frames["rpi-2", "kept"]
    assert harness.recorder.refusals == {}


@pytest.fixture
def unused_port() -> int:
    """A port that was free a moment ago; imagezmq cannot bind to any that is free."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        return socket.bind_to_random_port("tcp://127.0.0.1")
