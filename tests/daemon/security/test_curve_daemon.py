"""The whole daemon with CURVE: who gets in, what a thousand visitors leave behind, and what stops it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from click.testing import CliRunner
from daemon_process import Daemon, config_text
from ingest_harness import header, jpeg, label
from keyring import Keyring

from dance_ondevice.daemon.cli import main
from dance_ondevice.daemon.config.load import load
from dance_ondevice.daemon.security.clients import ClientKeys
from dance_ondevice.daemon.security.curve import ClientCurve, join
from dance_ondevice.daemon.supervisor import Supervisor

pytestmark = pytest.mark.slow


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys", "front", "door")


def security(ring: Keyring) -> str:
    return f'[security]\ncurve = true\nkeys_dir = "{ring.folder}"\n'


@pytest.fixture
def daemon(tmp_path: Path, ring: Keyring) -> Iterator[Daemon]:
    running = Daemon(tmp_path, extra=security(ring)).start()
    yield running
    running.stop(signal.SIGKILL)


@contextlib.contextmanager
def visitor(endpoint: str, curve: ClientCurve | None, kind: int = zmq.DEALER) -> Iterator[Any]:
    with zmq.Context() as context, context.socket(kind) as opened:
        opened.linger = 0
        opened.rcvtimeo = 30_000
        if curve is not None:
            join(opened, curve.pair, curve.server_key)
        opened.connect(endpoint)
        yield opened


def send(endpoint: str, curve: ClientCurve, seq: int) -> dict[str, Any]:
    with visitor(endpoint, curve) as opened:
        opened.send_multipart([header(seq=seq), jpeg(seq % 5)])
        reply: dict[str, Any] = json.loads(opened.recv())
        return reply


def metric(daemon: Daemon, pattern: str) -> float:
    with urllib.request.urlopen(daemon.facts["metrics"], timeout=10) as response:
        found = re.search(rf"^{pattern} (\S+)$", response.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_labels_are_imported_through_the_control_socket(
    daemon: Daemon, ring: Keyring, tmp_path: Path
) -> None:
    reply = send(daemon.facts["ingest"][0], ring.client("front"), 0)
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / f"{reply['id']}.png").write_bytes(label(classes=(4, 255)))
    for command, told in ((["import", str(masks)], "1 imported, 0 refused"), (["undo"], "1 removed")):
        done = CliRunner().invoke(main, ["labels", *command, "--state-dir", str(daemon.state)])
        assert (done.exit_code, told in done.output) == (0, True), done.output


def test_keys_open_the_daemon_and_their_removal_shuts_it(
    daemon: Daemon, ring: Keyring, tmp_path: Path
) -> None:
    endpoint = daemon.facts["ingest"][0]
    front, door = ring.client("front"), ring.client("door")
    stranger = ClientCurve(Keyring(tmp_path / "other", "front").client("front").pair, front.server_key)
    with visitor(endpoint, front) as opened, visitor(endpoint, stranger) as shut_out:
        with contextlib.suppress(zmq.Again):  # refused already: there is nobody left to send to
            shut_out.send_multipart([header(seq=77), jpeg()], zmq.NOBLOCK)
        opened.send_multipart([header(seq=0), jpeg()])
        assert json.loads(opened.recv())["kept"]
        ring.public_file("front").unlink()
        # Within a second or so; each answer tells.
        for seq in range(1, 1000):
            opened.send_multipart([header(seq=seq), jpeg(seq % 5)])
            if (reply := json.loads(opened.recv())).get("code") == "revoked":
                break
            time.sleep(0.01)
        assert reply["code"] == "revoked"
        assert send(endpoint, door, 2000)["ok"]
    daemon.wait_until(lambda _: metric(daemon, "dance_connections_refused_total") >= 1)
    assert metric(daemon, r'dance_refused_total\{reason="revoked"\}') == 1
    status = daemon.ask("status")
    assert sum(status["frames"].values()) == seq + 2
    assert status["frames"]["rejected"] == 1
    assert daemon.stop() == 0


def resources(daemon: Daemon) -> tuple[int, int]:
    """Open files and threads."""
    process = Path("/proc") / str(daemon.running.pid)
    return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


def test_a_thousand_visitors_leave_nothing_behind(daemon: Daemon, ring: Keyring, tmp_path: Path) -> None:
    endpoint = daemon.facts["ingest"][0]
    front = ring.client("front")
    stranger = ClientCurve(Keyring(tmp_path / "other", "front").client("front").pair, front.server_key)
    address = ("127.0.0.1", int(endpoint.rpartition(":")[2]))

    def visit(number: int) -> None:
        kind = number % 4
        if kind == 0:
            assert send(endpoint, front, number)["ok"]
        elif kind == 1:
            with visitor(endpoint, stranger) as shut_out:
                shut_out.send(b"x")
        else:
            with socket.create_connection(address) as raw:
                raw.sendall(b"GET / HTTP/1.0\r\n\r\n" if kind == 2 else b"\xff\0\0\0\0\0\0\0\x01\x7f")

    for number in range(40):
        visit(number)
    files, threads = resources(daemon)
    for number in range(40, 1040):
        visit(number)
    # The last connections are closed on a thread of libzmq's.
    daemon.wait_until(lambda _: resources(daemon)[0] <= files)
    assert resources(daemon)[1] == threads
    assert daemon.ask("status")["frames"].get("rejected", 0) == 0
    assert daemon.stop() == 0


def test_the_daemon_stops_when_its_authenticator_dies(
    tmp_path: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name_of(keys: ClientKeys, key: str) -> str | None:
        raise ArithmeticError("a fault")

    monkeypatch.setattr(ClientKeys, "name_of", name_of)
    site = tmp_path / "site.toml"
    site.write_text(config_text() + security(ring))
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    loaded = load(site, {"daemon.state_dir": str(tmp_path / "state")})

    def connect() -> None:
        facts = tmp_path / "state" / "daemon.json"
        deadline = time.monotonic() + 60
        while not facts.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with visitor(json.loads(facts.read_bytes())["ingest"][0], ring.client("front")) as opened:
            opened.rcvtimeo = 2000
            with contextlib.suppress(zmq.Again):
                opened.recv()

    knocking = threading.Thread(target=connect)
    knocking.start()
    assert Supervisor(loaded, environ={"RUNTIME_DIRECTORY": str(runtime)}).run() == 1
    knocking.join(60)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda ring: (ring.folder / "server.key_secret").unlink(), "keys generate"),
        (lambda ring: (ring.folder / "server.key_secret").chmod(0o644), "chmod 600"),
        (lambda ring: (ring.folder / "clients").chmod(0o777), "chmod o-w"),
    ],
)
def test_keys_that_cannot_be_used_are_a_configuration_error(
    tmp_path: Path, ring: Keyring, spoil: Callable[[Keyring], None], words: str
) -> None:
    refused = Daemon(tmp_path, extra=security(ring))
    spoil(ring)
    done = refused.run_cli("run", "--config", str(refused.config))
    assert done.returncode == 78
    assert "security.keys_dir" in done.stderr
    assert words in done.stderr
