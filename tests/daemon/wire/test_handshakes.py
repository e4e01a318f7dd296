"""Peers that do not go together at first: libzmq drops such a connection and never tries it again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from dance_ondevice.daemon.wire.links import AnsweredLink
from dance_ondevice.daemon.wire.receiver import Receiver

PATIENCE = 10.0


@contextlib.contextmanager
def at(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, endpoint: str, *, curve: bool = False
) -> Iterator[zmq.Socket[bytes]]:
    """A socket that is bound there; who was there before may take a moment to leave."""
    with context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if curve:
            socket.curve_server = True
            socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        end = time.monotonic() + PATIENCE
        while True:
            try:
                socket.bind(endpoint)
                break
            except zmq.ZMQError:
                assert time.monotonic() < end
        yield socket


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end


@pytest.fixture
def endpoint() -> str:
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        return f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}"


@pytest.mark.parametrize(("kind", "curve"), [(zmq.PUB, True), (zmq.REP, False)], ids=["curve", "kind"])
def test_a_publisher_that_is_set_right_is_heard_without_a_restart(
    endpoint: str, kind: int, curve: bool, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    with zmq.Context() as context:
        receiver = Receiver(
            context, bind=(), subscribe=(endpoint,), max_part_bytes=1000, monotonic=lambda: now[0]
        )

        def look() -> bool:
            receiver.wait(0.01)
            return "publisher not understood" in caplog.text

        with at(context, kind, endpoint, curve=curve):
            until(look)
        with at(context, zmq.PUB, endpoint) as publisher:

            def heard() -> bool:
                now[0] += 1.0
                publisher.send_multipart([b"{}", b"image"])
                receiver.wait(0.01)
                return any(True for _ in receiver.drain(1))

            until(heard)
        receiver.close()
    assert caplog.text.count("publisher not understood") == 1


def test_a_sender_reaches_a_daemon_that_is_set_right(endpoint: str) -> None:
    now = [0.0]
    with zmq.Context() as context:
        link = AnsweredLink(context, endpoint, lockstep=False, monotonic=lambda: now[0])

        def state() -> tuple[bool, str]:
            now[0] += 0.1
            link.wait(0.01, to_send=False)
            return link.listening, link.complaint

        with at(context, zmq.ROUTER, endpoint, curve=True):
            until(lambda: "no handshake" in state()[1])
        with at(context, zmq.ROUTER, endpoint):
            until(lambda: state()[0])
        link.close(at_once=True)
