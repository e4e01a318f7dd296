"""Programs that leak sockets, and what becomes of everybody else."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from daemon_process import Camera, Daemon

from dance_ondevice.daemon.control.server import ControlServer
from dance_ondevice.daemon.system.descriptors import LOW, limits_of, shares
from dance_ondevice.daemon.wire.connections import ConnectionGuard

PATIENCE = 10.0


@pytest.fixture
def guard() -> Iterator[ConnectionGuard]:
    started = ConnectionGuard()
    started.start()
    yield started
    assert started.stop(10)
    assert started.failure is None


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
    if descriptors >= LOW:  # and not even a burst, which is at most 1001 connections at each of three sockets
        assert given.senders + given.readers + given.commands + 3 * 1001 <= descriptors - 128


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
