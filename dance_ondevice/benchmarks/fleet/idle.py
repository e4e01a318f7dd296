"""What a fleet's two processes take while nothing is exchanged: real ones, over their encrypted socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from dance_ondevice.daemon.control import fleet as control
from dance_ondevice.daemon.control.server import ControlServer
from dance_ondevice.daemon.rounds.fleet.box import Box, FleetPart
from dance_ondevice.daemon.security import kit
from dance_ondevice.fleet.root import Root

__all__ = ["Idle", "measure"]

#: Seconds after the first news until what belongs to the start is over.
_SETTLE_S = 5.0
_PATIENCE_S = 300.0


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """Two idle processes.

    Attributes:
        seconds: That they were looked at, after the start.
        sync_seconds: Between two requests for news.
        link_mib, server_mib: Resident memory at the end.
        link_cpu_seconds, server_cpu_seconds: CPU time of these seconds.
    """

    seconds: float
    sync_seconds: float
    link_mib: float
    link_cpu_seconds: float
    server_mib: float
    server_cpu_seconds: float


def measure(root: Root, model: Path, folder: Path, seconds: float) -> Idle:
    """Run a server and a board's link for some seconds.

    Args:
        root: Description of the root.
        model: Its folder.
        folder: An empty folder with a short path, for kits and sockets.
        seconds: How long.

    Raises:
        RuntimeError: One of them ended, or the link has no news within minutes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    made = kit.write(folder / "fleet", ["board"], root=root, model=model, bind=endpoint, endpoint=endpoint)
    box = Box(folder / "box", root, now=time.time)
    daemon = ControlServer(
        f"ipc://{folder / 's'}", control.handlers(FleetPart(box=box, root=root), lambda: None), name="fleet"
    )
    daemon.start()
    environ = {**os.environ, control.SOCKET_VARIABLE: str(folder / "s")}
    command = [sys.executable, "-m", "dance_ondevice", "fleet"]
    processes = [
        subprocess.Popen(
            [*command, *words], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for words in (
            ["serve", "--kit", str(made.server), "--metrics", ""],
            ["join", "--kit", str(made.boards["board"])],
        )
    ]
    try:
        _wait(box, processes)
        before = [_cpu_seconds(process.pid) for process in processes]
        time.sleep(seconds)
        after = [_cpu_seconds(process.pid) for process in processes]
        news = box.snapshot().facts.news
        server, link = (_mebibytes(process.pid) for process in processes)
        return Idle(
            seconds=seconds,
            sync_seconds=news.next_s if news else 0.0,
            link_mib=link,
            link_cpu_seconds=after[1] - before[1],
            server_mib=server,
            server_cpu_seconds=after[0] - before[0],
        )
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)
        daemon.stop(10)


def _wait(box: Box, processes: list[subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while box.snapshot().facts.news is None:
        if time.monotonic() > end or any(process.poll() is not None for process in processes):
            raise RuntimeError("the fleet's processes did not find each other")
        time.sleep(0.2)
    time.sleep(_SETTLE_S)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _mebibytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024
