"""Notices to a webhook: a real HTTP server, and one that refuses, hangs or talks nonsense."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from dance_ondevice.daemon.control.notices import notices
from dance_ondevice.daemon.control.status import Parts
from dance_ondevice.daemon.control.webhook import Delivery, DeliveryFailed, Notice, Webhook, post
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.store.service import StoreSnapshot

NOTICE = Notice(
    key="labels front c1", kind="labels_wanted", text="12 frames want labels", facts={"frames": 12}
)


class Server:
    """Answers each post with the next of the given statuses, and keeps what came."""

    def __init__(self, *statuses: int) -> None:
        self.came: queue.Queue[dict[str, Any]] = queue.Queue()
        left = list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805 - self is the server here
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                status = left.pop(0) if left else 204
                handler.send_response(status)
                if status == 302:
                    handler.send_header("Location", "/elsewhere")
                handler.end_headers()
                self.came.put({"path": handler.path, "status": status, **body})

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook/s3cret?a=b"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def running(webhook: Webhook) -> Iterator[Webhook]:
    webhook.start()
    try:
        yield webhook
    finally:
        assert webhook.stop()
        assert webhook.failure is None


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(500, 302)
    yield found
    found.close()


class Clock:
    """Moves on by an hour at every look, so that each failure may be tried again at the next one."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        self.at += 3600.0
        return self.at


def test_a_notice_arrives_once_and_is_tried_again_after_a_failure(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    looks = threading.Semaphore(0)

    def notices() -> list[Notice]:
        looks.release()
        return [NOTICE]

    clock = Clock()
    webhook = Webhook(server.url, notices, monotonic=clock, now=lambda: 12.5, look_seconds=0.01)
    with running(webhook):
        came = [server.came.get(timeout=30) for _ in range(3)]
        clock.at = -3600.0  # and the hours stand still from here on
        webhook._monotonic = lambda: clock.at + 3600.0
        for _ in range(5 + looks._value):
            assert looks.acquire(timeout=30)
        assert server.came.empty()
        report = webhook.report
    assert [each["status"] for each in came] == [500, 302, 204]
    assert {each["path"] for each in came} == {"/hook/s3cret?a=b"}
    assert came[-1] == came[0] | {"status": 204}
    assert came[0].items() >= {"v": 1, "at": 12.5, "kind": "labels_wanted", "frames": 12}.items()
    assert report == {"to": server.url.split("/hook")[0], "sent": 1, "trouble": None}
    assert "answered with status 500" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_stop_does_not_wait_for_a_server_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = threading.Event()

        def slow(url: str, body: bytes) -> None:
            asked.set()
            post(url, body, seconds=0.2)

        webhook = Webhook(
            f"http://127.0.0.1:{silent.getsockname()[1]}/", lambda: [NOTICE], post=slow, look_seconds=0.01
        )
        with running(webhook):
            assert asked.wait(30)
        assert "cannot post to http://127.0.0.1" in str(webhook.report["trouble"])


@pytest.mark.parametrize(
    "error", [DeliveryFailed("it answered with status 404"), ValueError("odd"), KeyError("bug")]
)
def test_no_failure_ends_the_thread(error: Exception) -> None:
    tried = threading.Semaphore(0)

    def failing(url: str, body: bytes) -> None:
        tried.release()
        raise error

    with running(Webhook("http://h/", lambda: [NOTICE], post=failing, monotonic=Clock(), look_seconds=0.01)):
        for _ in range(3):
            assert tried.acquire(timeout=30)


def test_https_needs_a_certificate_that_is_trusted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def hang_up() -> None:
            plain.accept()[0].close()

        answer = threading.Thread(target=hang_up)
        answer.start()
        with pytest.raises(OSError):
            post(f"https://127.0.0.1:{plain.getsockname()[1]}/", b"{}")
        answer.join()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_drips_its_answer_keeps_nobody(scheme: str) -> None:
    """Each byte comes within the time of a part; a line of them could take days."""
    with socket.create_server(("127.0.0.1", 0)) as dripping:
        gone = threading.Event()

        def drip() -> None:
            with dripping.accept()[0] as connection, contextlib.suppress(OSError):
                # Of TLS, a handshake's record that is longer than what comes.
                connection.sendall(b"\x16\x03\x03\x3f\xff" if scheme == "https" else b"HTTP/1.1 200 ")
                while not gone.wait(0.02):
                    connection.sendall(b"x")

        server = threading.Thread(target=drip)
        server.start()
        try:
            url = f"{scheme}://127.0.0.1:{dripping.getsockname()[1]}/"
            with pytest.raises(TimeoutError, match="no answer within"):
                post(url, b"{}", seconds=10, whole_seconds=0.3)
        finally:
            gone.set()
            server.join()


@given(st.lists(st.sampled_from(["ok", "fails", "later"]), max_size=30))
def test_waits_grow_while_nothing_arrives_and_start_anew_afterwards(events: list[str]) -> None:
    delivery, now, waits = Delivery(), 0.0, list[float]()
    for event in events:
        if event == "later":
            now += 7 * 3600.0
        elif event == "fails":
            waits.append(delivery.failed(now))
            assert not delivery.due([NOTICE], now)
            assert waits[-1] <= 3600
        else:
            delivery.delivered(NOTICE, now)
            waits.clear()
            assert not delivery.due([NOTICE], now + 60)
        assert waits == sorted(waits)


def test_what_lasts_is_told_once_and_what_comes_back_after_a_day_again() -> None:
    delivery = Delivery()
    delivery.delivered(NOTICE, 0.0)
    for hour in range(1, 48):
        assert not delivery.due([NOTICE], hour * 3600.0)
    assert delivery.due([NOTICE], 72 * 3600.0) == [NOTICE]


def test_any_number_of_notices_takes_little_memory() -> None:
    delivery = Delivery()
    for number in range(1000):
        delivery.delivered(Notice(key=str(number), kind="warning", text=""), float(number))
    assert len(delivery.sent) == 256
    many = [Notice(key=f"n{number}", kind="warning", text="") for number in range(100)]
    assert len(delivery.due(many, 1000.0)) == 16


def test_what_anybody_may_send_to_the_board_is_not_sent_on() -> None:
    instruments = Instruments(CollectorRegistry())
    instruments.refused_frame("front", "the header is no JSON")
    parts = SimpleNamespace(
        rounds=SimpleNamespace(snapshot=lambda: SimpleNamespace(labels_wanted=()), anchors_unreadable=()),
        advisor=SimpleNamespace(now=lambda: SimpleNamespace(obstacles=())),
        versions=SimpleNamespace(live=lambda: None, note=""),
        meter_note="energy is modelled",
        energy=SimpleNamespace(later=""),
        store=SimpleNamespace(snapshot=StoreSnapshot),
        instruments=instruments,
        model_changes=tuple,
        webhook=lambda: None,
        restart_keys=tuple,
    )
    assert [each.text for each in notices(cast("Parts", parts))] == ["energy is modelled"]
