"""A fleet's server and three boards as real processes: offers go out, a version comes back and is judged.

Where the kernel lets this user make one, they live in a network namespace with a loopback and nothing else.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon_process import PATIENCE, Camera, Daemon, free_port

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.fleet.changes import unpack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_CLONE_NEWNET, _SIOCSIFFLAGS, _IFF_UP = 0x40000000, 0x8914, 0x1
BOARDS = ("front", "gate", "yard")


def cli(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dance_ondevice", *arguments]


class Processes:
    """The processes of a test, each with its log; what runs at the end is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(cli(*arguments), stdout=log, stderr=log)
        return self.running[name]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        process = self.running.pop(name)
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(30)

    def wait_until(self, true: Callable[[], Any], *names: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (found := true()):
            logs = {name: self.log(name)[-2000:] for name in names}
            assert time.monotonic() < deadline, logs
            for name in names:
                assert self.running[name].poll() is None, logs
            time.sleep(0.1)  # other processes: the only way is to look again
        return found


@pytest.fixture
def network() -> Iterator[bool]:
    """A network namespace for this thread and what it starts; False where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        if libc.unshare(_CLONE_NEWNET) != 0:
            print("no network namespace of its own: it takes CAP_SYS_ADMIN")
            yield False
            return
        try:
            with socket.socket() as any_socket:
                request = struct.pack("16sH", b"lo", _IFF_UP)
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request.ljust(40, b"\0"))
            yield True
        finally:
            assert libc.setns(before.fileno(), _CLONE_NEWNET) == 0


@pytest.fixture
def processes(network: bool, tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    for name in list(found.running):
        found.stop(name, signal.SIGKILL)


@pytest.fixture
def boards(network: bool, tmp_path: Path) -> Iterator[dict[str, Daemon]]:
    """Three daemons in one fleet, which begin with one model; not yet started."""
    model = tmp_path / "model"
    first_model.main(["fastscnn", "", json.dumps(Config().model.classes), "7", "64", "48", str(model)])
    made = subprocess.run(
        cli("fleet", "init", str(tmp_path / "fleet"), "--boards", ",".join(BOARDS), "--model", str(model)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    found = {}
    for name in BOARDS:
        (tmp_path / name).mkdir()
        daemon = Daemon(tmp_path / name)
        text = daemon.config.read_text().replace('weights = "untrained"', f'weights = "{model}"')
        text = text.replace("[promotion]", "[promotion]\nprobation_samples = 0")
        kit = tmp_path / "fleet" / "boards" / name
        daemon.config.write_text(f'{text}\n[fleet]\nkit = "{kit}"\nmax_own_drop = 1.0\n')
        found[name] = daemon
    yield found
    for daemon in found.values():
        if daemon.process is not None:
            daemon.stop(signal.SIGKILL)


def serve(processes: Processes, folder: Path, bind: str = "") -> str:
    """Start the server; returns its endpoint, which the boards' kits then name."""
    kit = folder / "fleet" / "server" / "kit.json"
    settings = json.loads(kit.read_bytes())
    settings |= {"bind": bind or f"tcp://127.0.0.1:{free_port()}", "sync_seconds": 0.5}
    settings["rules"] |= {"least_votes": 2, "least_share": 0.0}
    kit.write_bytes(msgspec.json.encode(settings))
    processes.start("server", "fleet", "serve", "--kit", str(kit.parent), "--metrics", "")
    endpoint = processes.wait_until(
        lambda: [
            line.split()[2] for line in processes.log("server").splitlines() if line.startswith("fleet at")
        ],
        "server",
    )[-1]
    for name in BOARDS:
        file = folder / "fleet" / "boards" / name / "kit.json"
        file.write_bytes(msgspec.json.encode(json.loads(file.read_bytes()) | {"endpoint": endpoint}))
    return endpoint


def join(processes: Processes, folder: Path, name: str, daemon: Daemon) -> None:
    kit = folder / "fleet" / "boards" / name
    processes.start(f"join-{name}", "fleet", "join", "--kit", str(kit), "--state-dir", str(daemon.state))


def memory_of(pid: int) -> int:
    """Resident bytes of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))


def test_three_boards_learn_together(
    processes: Processes, boards: dict[str, Daemon], network: bool, tmp_path: Path
) -> None:
    if network:
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
    endpoint = serve(processes, tmp_path)
    for daemon in boards.values():
        daemon.launch()
    for number, (name, daemon) in enumerate(boards.items()):
        daemon.answers()
        join(processes, tmp_path, name, daemon)
        # From the first news on it is known that the server reads changes.
        daemon.wait_until(lambda found: found["fleet"]["heard_at"])
        camera = Camera(daemon.facts["ingest"][0], name)
        for index in range(24):
            camera.send(100 * number + index, condition=("day", "dusk", "night")[number % 3])
        camera.close()
        daemon.ask("train_now")
    whole = (
        (tmp_path / "fleet" / "server" / "state" / "versions" / "000000" / "release.safetensors")
        .stat()
        .st_size
    )
    for name, daemon in boards.items():
        status = daemon.wait_until(
            lambda found: any(each["outcome"] == "taken" for each in found["fleet"]["judged"])
        )
        found = status["fleet"]
        assert found["version"] == 1
        assert found["trouble"] is None
        assert found["offer"].startswith("used in version 1"), found
        # Changes against the root, which every board has: nothing was fetched or handed in whole.
        assert 0 < found["sent_bytes"] < 0.6 * whole
        assert 0 < found["received_bytes"] < 0.6 * whole
        rows = json.loads(daemon.run_cli("fleet", "status", "--json").stdout)
        assert rows["version"] == 1
        pid = processes.running[f"join-{name}"].pid
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
        assert memory_of(pid) < 100 * 2**20
    assert status["rounds"]["last"]["steps"] == 0
    assert status["rounds"]["last"]["gross_joules"] > 0
    # What left a board: its offer, which holds no image, no label and no statistics of its images.
    from safetensors.numpy import load

    data = (boards["front"].state / "fleet" / "offer.safetensors").read_bytes()
    offer = load(unpack(data, 1 << 30))
    assert [name for name in offer if name.startswith("change/")]
    assert not [name for name in offer if "running_" in name]
    # A revoked board is told nothing more; the others go on.
    (tmp_path / "fleet" / "server" / "clients" / "yard.key").unlink()
    boards["yard"].wait_until(lambda found: "revoked" in (found["fleet"]["trouble"] or ""))
    # A server that was away comes back with all that it had.
    assert processes.stop("server") == 0
    boards["front"].wait_until(
        lambda found: any(words in (found["fleet"]["trouble"] or "") for words in ("broke", "be reached"))
    )
    serve(processes, tmp_path, endpoint)
    status = boards["front"].wait_until(lambda found: found["fleet"]["trouble"] is None)
    assert status["fleet"]["published"] >= 1
    for name in BOARDS:
        assert processes.stop(f"join-{name}") == 0
