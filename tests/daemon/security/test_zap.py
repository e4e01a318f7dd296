"""The authenticator, asked by libzmq itself."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from ingest_harness import PATIENCE
from keyring import Keyring
from zmq.utils.monitor import recv_monitor_message

from dance_ondevice.daemon.security.curve import ClientCurve, join, serve
from dance_ondevice.daemon.security.zap import ZapAuthenticator

ACCEPTED = zmq.EVENT_HANDSHAKE_SUCCEEDED
REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH
CLOSED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys", "front")


class Site:
    """A ROUTER behind an authenticator."""

    def __init__(self, ring: Keyring, name_of: Callable[[str], str | None]) -> None:
        self.refused = 0
        self.context: zmq.Context[Any] = zmq.Context()
        self.authenticator = ZapAuthenticator(self.context, name_of, on_refused=self._count)
        self.authenticator.start()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.rcvtimeo = int(PATIENCE * 1000)
        serve(self.router, ring.server.pair)
        self.router.bind("tcp://127.0.0.1:*")
        self.endpoint = self.router.last_endpoint.decode()

    def _count(self) -> None:
        self.refused += 1

    def knock(self, curve: ClientCurve | None, patience: float = PATIENCE) -> int:
        """What becomes of one handshake within some seconds."""
        events = ACCEPTED | REFUSED | CLOSED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            if curve is not None:
                join(socket, curve.pair, curve.server_key)
            with socket.get_monitor_socket(events) as monitor:
                socket.connect(self.endpoint)
                assert monitor.poll(patience * 1000)
                event: int = recv_monitor_message(monitor)["event"]
                socket.disable_monitor()
            return event

    def ask(self, request: list[bytes]) -> list[bytes]:
        """The authenticator's answer to a request that libzmq would not make."""
        with self.context.socket(zmq.REQ) as asking:
            asking.rcvtimeo = int(PATIENCE * 1000)
            asking.connect("inproc://zeromq.zap.01")
            asking.send_multipart(request)
            answer: list[bytes] = asking.recv_multipart()
            return answer

    def close(self) -> None:
        self.authenticator.stop(10)
        self.router.close(0)
        self.context.term()


@contextlib.contextmanager
def site(ring: Keyring, name_of: Callable[[str], str | None] | None = None) -> Iterator[Site]:
    opened = Site(ring, name_of or ring.server.clients.name_of)
    try:
        yield opened
    finally:
        opened.close()


def test_known_keys_get_in_and_their_messages_carry_the_key(ring: Keyring) -> None:
    with site(ring) as here, zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        curve = ring.client("front")
        join(socket, curve.pair, curve.server_key)
        socket.connect(here.endpoint)
        socket.send(b"hello")
        assert here.router.recv_multipart(copy=False)[1].get("User-Id") == curve.pair.public.decode()
        assert here.refused == 0


def test_others_are_refused(ring: Keyring, tmp_path: Path) -> None:
    other = Keyring(tmp_path / "other", "front")
    stranger = ClientCurve(other.client("front").pair, ring.server.pair.public)
    mistaken = ClientCurve(ring.client("front").pair, other.server.pair.public)
    with site(ring) as here:
        assert here.knock(ring.client("front")) == ACCEPTED
        assert here.knock(stranger) == REFUSED
        assert here.refused == 1
        assert here.knock(mistaken) == CLOSED
        assert here.knock(None) != ACCEPTED


def test_removing_a_file_refuses_new_connections_at_once(ring: Keyring) -> None:
    with site(ring) as here:
        assert here.knock(ring.client("front")) == ACCEPTED
        text = ring.public_file("front").read_bytes()
        ring.public_file("front").unlink()
        assert here.knock(ring.client("front")) == REFUSED
        ring.public_file("front").write_bytes(text)
        assert here.knock(ring.client("front")) == ACCEPTED


def test_keys_that_cannot_be_read_now_turn_away_for_now(ring: Keyring) -> None:
    def name_of(key: str) -> str | None:
        raise OSError(24, "Too many open files")

    request = [b"1.0", b"7", b"dance-ondevice", b"127.0.0.1", b"", b"CURVE", b"x" * 32]
    with site(ring, name_of) as here:
        # A client that is told 300 tries again, after 400 libzmq never does.
        assert here.ask(request)[2] == b"300"
        assert here.authenticator.alive


def test_a_wake_without_a_stop_is_over_after_one_turn(ring: Keyring) -> None:
    with site(ring) as here:
        here.authenticator.wake()
        assert here.knock(ring.client("front")) == ACCEPTED
        assert not select.select([here.authenticator._waker.fileno()], [], [], 0)[0]


def test_nobody_gets_in_once_the_authenticator_is_dead(ring: Keyring) -> None:
    asked = threading.Event()

    def name_of(key: str) -> str | None:
        asked.set()
        raise ArithmeticError("a fault")

    with site(ring, name_of) as here, here.context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        join(socket, ring.client("front").pair, ring.server.pair.public)
        socket.connect(here.endpoint)
        assert asked.wait(PATIENCE)
        assert here.authenticator.stop(PATIENCE)
        assert isinstance(here.authenticator.failure, ArithmeticError)
        # libzmq by itself would let in everybody now. It may wait for an answer of what is just being closed,
        # and gives up when the time for a handshake is over.
        assert here.knock(ring.client("front"), patience=60.0) == CLOSED


@pytest.mark.parametrize(
    "request_parts",
    [
        [],
        [b"1.0"],
        [b"1.0", b"7"],
        [b"1.0", b"7", b"dance-ondevice", b"127.0.0.1", b"", b"NULL"],
        [b"1.0", b"7", b"dance-ondevice", b"127.0.0.1", b"", b"PLAIN", b"x" * 32],
        [b"1.0", b"7", b"dance-ondevice", b"\xff", b"", b"CURVE", b"short"],
        [b"1.0", b"7", b"elsewhere", b"127.0.0.1", b"", b"CURVE", b"x" * 32],
        [b"2.0", b"7", b"dance-ondevice", b"127.0.0.1", b"", b"CURVE", b"x" * 32],
    ],
)
def test_requests_of_another_kind_are_refused(ring: Keyring, request_parts: list[bytes]) -> None:
    with site(ring, lambda key: "anybody") as here:
        version, number, status, *_ = here.ask(request_parts or [b""])
        assert (version, status) == (b"1.0", b"400")
        assert number == (b"7" if len(request_parts) > 1 else b"")
        assert here.refused == 1
