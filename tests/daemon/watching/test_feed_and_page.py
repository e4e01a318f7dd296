"""Masks as a viewer sees them: the subscription, and the page that shows them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from dance_ondevice.daemon.watching.feed import MaskFeed
from dance_ondevice.daemon.watching.page import Pictures, WatchPage
from dance_ondevice.images.codec import encode_png


class Publisher:
    """A daemon's mask socket; ``send`` waits for its subscriber."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._socket = context.socket(zmq.XPUB)
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"

    def wait_for_subscriber(self) -> None:
        for _ in range(2):
            assert self._socket.poll(20_000)
            self._socket.recv()

    def send(self, *parts: bytes) -> None:
        self._socket.send_multipart(parts)

    def mask(self, camera: str, value: int) -> None:
        header = {"v": 1, "id": f"{camera}-1", "camera": camera, "captured_at": 5.0, "model_version": "v0001"}
        self.send(
            f"mask/{camera}".encode(),
            json.dumps(header).encode(),
            encode_png(np.full((4, 6), value, np.uint8)),
        )


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield Publisher(context)
    context.destroy(linger=0)


def test_the_newest_mask_of_the_camera_that_was_asked_for(publisher: Publisher) -> None:
    with MaskFeed(publisher.endpoint, camera="front") as feed:
        publisher.wait_for_subscriber()
        publisher.send(
            b"classes/front", b'{"v": 1, "camera": "front", "classes": ["sky"], "palette": [[1, 2, 3]]}'
        )
        publisher.send(b"mask/front", b"no json", b"no image")
        publisher.mask("front2", 9)
        publisher.mask("front", 1)
        seen = feed.next(20.0)
        while seen is None or seen.mask[0, 0] != 1:
            seen = feed.next(20.0)
        assert (seen.camera, seen.version, seen.mask.shape) == ("front", "v0001", (4, 6))
        assert feed.classes["front"].names == ("sky",)
        assert feed.classes["front"].palette == ((1, 2, 3),)
        assert feed.damaged == 1
        assert feed.next(0.001) is None


def get(url: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"Host": host}), timeout=20
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_page_shows_each_camera_to_this_machine_alone() -> None:
    pictures = Pictures()
    with WatchPage("127.0.0.1", 0, pictures) as page:
        assert b"No mask has come yet" in get(page.url)[1]
        pictures.put("<script>", b"png of one")
        pictures.put("back", b"png of another")
        text = get(page.url)[1]
        assert b"<script>" not in text
        assert b"&lt;script&gt;" in text
        assert get(page.url + "0.png") == (200, b"png of one")
        assert get(page.url + "1.png") == (200, b"png of another")
        for path in ("2.png", "x.png", "../etc/passwd", "99999999999.png"):
            assert get(page.url + path)[0] == 404
        assert get(page.url, host="evil.example")[0] == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", ""])
def test_a_page_that_others_could_reach_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="no login"):
        WatchPage(host, 0, Pictures())
