"""Programs that leak sockets, and what becomes of everybody else."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import zmq
from daemon_process import Camera, Daemon

from dance_ondevice.daemon.control import client
from dance_ondevice.daemon.control.server import ControlServer
from dance_ondevice.daemon.store.scan import scan
from dance_ondevice.daemon.system.descriptors import LOW, limits_of, shares
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.wire.connections import ConnectionGuard
from dance_ondevice.daemon.wire.receiver import Receiver

PATIENCE = 10.0
#: Connections that one socket takes while nobody hears of them.
BURST = 1010


@pytest.fixture
def guard() -> Iterator[ConnectionGuard]:
    started = ConnectionGuard()
    started.start()
    yield started
    assert started.stop(10)
    assert started.failure is None


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def left(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection; waits for it."""
    connection.settimeout(PATIENCE)
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def test_what_is_beyond_the_limit_is_closed_and_counted() -> None:
    counted: list[tuple[str, int]] = []
    enough = threading.Event()

    def count(name: str, number: int) -> None:
        counted.append((name, number))
        if sum(closed for _, closed in counted) >= 4:
            enough.set()

    guard = ConnectionGuard(on_closed=count)
    guard.start()
    with zmq.Context() as context:
        router = context.socket(zmq.ROUTER)
        guard.bounding("ingest", 3)(router)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(7)]
        assert enough.wait(PATIENCE)
        assert {name for name, _ in counted} == {"ingest"}
        assert all(left(connection) for connection in opened[:2])
        for connection in opened:
            connection.close()
        router.close(linger=0)
        assert guard.stop(10)
    assert guard.failure is None


def try_port(context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    socket.create_connection((host, int(port))).close()


def send_a_word(context: zmq.Context[zmq.Socket[bytes]], address: str) -> None:
    with context.socket(zmq.REQ) as sender:
        sender.connect(address)
        sender.send(b"word")
        assert sender.poll(int(1000 * PATIENCE))


def connect(kind: int, *, keys: bool = False) -> Callable[..., zmq.Socket[bytes]]:
    def of_kind(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
        sender = context.socket(kind)
        sender.setsockopt(zmq.LINGER, 0)
        if keys:
            public, secret = zmq.curve_keypair()
            sender.curve_publickey, sender.curve_secretkey, sender.curve_serverkey = public, secret, public
        sender.connect(address)
        return sender

    return of_kind


@pytest.mark.parametrize(
    "wrong",
    [connect(zmq.PUSH), connect(zmq.PUB), connect(zmq.REQ, keys=True)],
    ids=["push", "pub", "curve"],
)
def test_a_peer_that_cannot_be_heard_is_told_of(wrong: Callable[..., Any]) -> None:
    """libzmq drops it without a word. Who tries the port, or comes and goes, is nothing to tell."""
    lines: SimpleQueue[str] = SimpleQueue()
    log = logging.getLogger(ConnectionGuard.__module__)
    heard = logging.Handler()
    heard.emit = lambda record: lines.put(record.getMessage())  # type: ignore[method-assign]  # lines go to the test
    log.addHandler(heard)
    guard = ConnectionGuard()
    guard.start()
    with zmq.Context() as context:
        router = context.socket(zmq.ROUTER)
        connections = guard.bounding("ingest", 100, takes="a sender is a REQ socket")(router)
        address = f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"
        for _ in range(3):
            try_port(context, address)
            answered = threading.Thread(target=send_a_word, args=(context, address))
            answered.start()
            router.send_multipart(router.recv_multipart())
            answered.join(PATIENCE)
        assert lines.empty()
        with wrong(context, address):
            line = lines.get(timeout=PATIENCE)
        assert line == "a peer was dropped at its handshake socket=ingest reason='a sender is a REQ socket'"
        assert len(connections) <= 3
        router.close(linger=0)
        assert guard.stop(10)
    log.removeHandler(heard)
    assert guard.failure is None


#: What a DEALER of before libzmq 4 says first, and how it writes the parts of a message.
OLD = {
    "ZMTP 1": (b"\x01\x00", lambda part, more: bytes([len(part) + 1, more]) + part),
    "ZMTP 2": (
        b"\xff" + bytes(7) + b"\x01\x7f\x01\x05\x00\x00",
        lambda part, more: bytes([more, len(part)]) + part,
    ),
}


@pytest.mark.parametrize("protocol", OLD)
def test_a_peer_of_an_old_protocol_is_served(guard: ConnectionGuard, protocol: str, tmp_path: Path) -> None:
    """libzmq tells nothing of its connection, which ended the thread that asked, and with it the service."""
    greeting, part = OLD[protocol]
    server = ControlServer(
        f"ipc://{tmp_path / 'c'}", {"echo": lambda query: query}, watch=guard.bounding("control", 2)
    )
    server.start()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(tmp_path / "c"))
        peer.sendall(greeting + part(b"", 1) + part(b'{"cmd": "echo", "n": 7}', 0))
        assert_said(peer, b'"result":{"n":7}')
    assert server.stop(10)
    with zmq.Context() as context:
        receiver = Receiver(
            context,
            bind=("tcp://127.0.0.1:*",),
            subscribe=(),
            max_part_bytes=1000,
            watch=guard.bounding("ingest", 2),
        )
        host, _, port = receiver.endpoints[0].removeprefix("tcp://").rpartition(":")
        with socket.create_connection((host, int(port))) as peer:
            peer.sendall(greeting + part(b"", 1) + part(b"{}", 1) + part(b"image", 0))
            receiver.wait(PATIENCE)
            (received,) = receiver.drain(1)
            assert [bytes(each) for each in received.parts] == [b"{}", b"image"]
            receiver.reply(received.origin, b"answered")
            assert_said(peer, b"answered")
        receiver.close()
        assert guard.stop(10)


def assert_said(peer: socket.socket, text: bytes) -> None:
    peer.settimeout(PATIENCE)
    said = b""
    while text not in said:
        said += (more := peer.recv(4096))
        assert more, said


def test_the_guard_leaves_when_its_sockets_are_closed(guard: ConnectionGuard, tmp_path: Path) -> None:
    server = ControlServer(
        f"ipc://{tmp_path / 'c'}", {"echo": lambda query: query}, watch=guard.bounding("control", 2)
    )
    server.start()
    with zmq.Context() as context:
        clients = [context.socket(zmq.REQ) for _ in range(6)]
        for number, client in enumerate(clients):
            client.linger = 0
            client.connect(server.endpoint)
            client.send_json({"cmd": "echo", "n": number})
            assert client.poll(PATIENCE * 1000)
            assert client.recv_json()["result"] == {"n": number}
        for client in clients:
            client.close()
    assert server.stop(10)  # its context ends, so nobody holds on to its events


@pytest.mark.parametrize("descriptors", [64, 256, 1024, 4096, 524288, 2**31 - 1])
@pytest.mark.parametrize("max_cameras", [1, 64, 4096])
def test_connections_never_get_all_descriptors(descriptors: int, max_cameras: int) -> None:
    given = shares(descriptors, max_cameras)
    assert min(given.senders, given.readers, given.commands) >= 4
    assert given.senders + given.readers + given.commands <= descriptors - 48
    if descriptors >= LOW:  # and not even a burst, see below, at each of three sockets
        assert given.senders + given.readers + given.commands + 3 * BURST <= descriptors - 128


@pytest.mark.slow
def test_no_more_than_a_burst_is_accepted_before_the_guard_has_heard_of_it() -> None:
    unread = ConnectionGuard()  # and not started
    with zmq.Context() as context:
        router = context.socket(zmq.ROUTER)
        unread.bounding("ingest", 3)(router)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        before, fresh, most = open_descriptors(), [], 0
        try:
            # One after another, each until it is through, so that the listener's queue never overflows. The
            # first that is not let in within a few seconds meets one that accepts no more.
            while len(fresh) < 2 * BURST:
                fresh.append(socket.create_connection(("127.0.0.1", port), timeout=5))
                most = max(most, open_descriptors() - before - len(fresh))
        except TimeoutError:
            most = max(most, open_descriptors() - before - len(fresh))
        finally:
            for connection in fresh:
                connection.close()
        unread.start()
        router.close(linger=0)
        assert unread.stop(10)
    assert unread.failure is None
    assert 100 < most <= BURST


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = "from dance_ondevice.daemon.system.descriptors import raise_limit; print(raise_limit())"
    done = subprocess.run(
        ["prlimit", "--nofile=100:300", sys.executable, "-c", code],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["300"]


@pytest.mark.slow
def test_leaked_sockets_neither_end_the_daemon_nor_silence_a_camera(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.prefix = ("prlimit", "--nofile=512:1024")
    daemon.start()
    try:
        found = limits_of(daemon.running.pid, Path("/proc"))
        assert found is not None
        assert found[:2] == (1024, 1024)
        camera = Camera(daemon.facts["ingest"][0])
        assert camera.send(0)["ok"]
        assert camera.send(1)["ok"]
        with zmq.Context() as context:
            context.set(zmq.MAX_SOCKETS, 4096)
            # A new socket for each frame, and none of them closed.
            sockets = [context.socket(zmq.REQ) for _ in range(1200)]
            for number, leaked in enumerate(sockets):
                leaked.linger = 0
                leaked.connect(daemon.facts["ingest"][0])
                leaked.send_multipart([b"junk", b"junk"])
                if number % 200 == 0:
                    assert camera.send(10 + number)["ok"]
                    assert daemon.ask("status")["ready"]
            assert camera.send(3)["ok"]
            done = daemon.run_cli("status")
            assert done.returncode == 0, done.stderr
            for leaked in sockets:
                leaked.close()
        camera.close()
        assert daemon.running.poll() is None
        assert "connections closed socket=ingest" in daemon.log.read_text()
    finally:
        assert daemon.stop() == 0


@pytest.mark.slow
def test_a_flood_at_a_limit_without_room_for_it_costs_nothing_that_was_promised(tmp_path: Path) -> None:
    """libzmq may end the daemon then, as it accepts a command's connection; the next start has it all."""
    daemon = Daemon(tmp_path)
    daemon.prefix = ("prlimit", "--nofile=160:160")
    daemon.start()
    promised, number = [], 0
    flood: list[socket.socket] = []
    port = int(daemon.facts["ingest"][0].rpartition(":")[2])
    try:
        while daemon.running.poll() is None and number < 20:
            camera = Camera(daemon.facts["ingest"][0])
            for _ in range(150):
                flood.append(socket.socket())
                flood[-1].setblocking(False)
                flood[-1].connect_ex(("127.0.0.1", port))
            camera._socket.rcvtimeo = 500
            with contextlib.suppress(zmq.Again):  # the daemon is gone, or the connection gave way
                promised.append(camera.send(number)["id"])
            with contextlib.suppress(client.ClientError):
                daemon.ask("status")
            camera.close()
            number += 1
        assert daemon.running.poll() in (None, -signal.SIGABRT)
        for connection in flood:
            connection.close()
        daemon.stop(signal.SIGKILL)
        daemon.start()
        stored = {sample.id for sample in scan(StatePaths(daemon.state)).images.values()}
        assert set(promised) <= stored
    finally:
        assert daemon.stop() == 0
