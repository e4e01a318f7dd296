"""Somebody who types what a page of the documentation says, in fresh shells, beside a daemon of that page.

Only what a test cannot have is replaced: a camera's address by a folder of rendered frames, ports by free
ones, the size of the model by a small one, and what would make rounds long or wait for other tests.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dance_ondevice.datasets.street import StreetCamera

#: A busy machine is no failure.
PATIENCE = 300
WIDTH, HEIGHT = 96, 72
FRAMES = 40
#: Frames a second of the recording: it spans several of the blocks of time that are held out as a whole.
RATE = 2

CONFIG = "dance-ondevice config init"
EXPORT_VARIABLES = "export DANCE_CONFIG"
RUN = "dance-ondevice run"


def commands(page: Path) -> list[str]:
    """Every line of a page's shell blocks, comments and all; continued lines are joined."""
    fences = re.finditer(r"^ *```(\w*)\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE)
    text = "".join(fence[2] for fence in fences if fence[1] in ("", "sh"))
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def command(page: Path, start: str) -> str:
    """The command of a page that starts so."""
    (line,) = [line for line in commands(page) if f"{line}  ".startswith(start)]
    return line


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class User:
    """Somebody with a fresh home and an activated environment, who types what a page says.

    Each command gets a shell of its own; what the page exports "in each shell" is typed first.
    """

    def __init__(
        self, page: Path, home: Path, street: StreetCamera, *, weights: str, engine: str = "auto"
    ) -> None:
        self.home = home
        self._said_by = page
        self.typed: set[str] = set()
        self.seconds: list[tuple[str, float]] = []
        self._street = street
        (home / "runtime").mkdir(mode=0o700)
        ingest, masks, metrics, http = free_ports(4)
        self.page = f"http://127.0.0.1:{http}/"
        self._hardware = {"rtsp://camera.local/main": "frames", ":5555": f":{ingest}", ":8088": f":{http}"}
        self._site = {
            ":5555": f":{ingest}",
            ":5556": f":{masks}",
            ":9747": f":{metrics}",
            "\nsize = [480, 360]": f"\nsize = [{WIDTH}, {HEIGHT}]",
            '\nweights = ""': f'\nweights = "{weights}"',
            '\nengine = "auto"': f'\nengine = "{engine}"',
            '\nprecision = "auto"': '\nprecision = "fp32"',
            '\npriority = "background"': '\npriority = "normal"',
            "\nbatch_size = 8": "\nbatch_size = 4",
            "\nthreads = 0": "\nthreads = 1",
        }
        tools = Path(sys.executable).parent
        assert (tools / "dance-ondevice").exists(), "install the package: pip install -e ."
        self._environ = {
            "HOME": str(home),
            "PATH": f"{tools}:/usr/bin:/bin",
            "VIRTUAL_ENV": str(tools.parent),
            "TERM": "dumb",
            "XDG_RUNTIME_DIR": str(home / "runtime"),
        }

    def type(self, start: str, *, code: int = 0, **words: str) -> str:
        """Type the page's command that starts so, words such as ID filled in; returns what it prints."""
        process, began = self._launch(start, subprocess.PIPE, words), time.monotonic()
        printed, _ = process.communicate(timeout=PATIENCE)
        self.seconds.append((start, time.monotonic() - began))
        assert process.returncode == code, f"{start}: {process.returncode}\n{printed}"
        assert "Traceback" not in printed
        return str(printed)

    @contextmanager
    def typing(self, start: str, log: str, *, drop: str = "") -> Iterator[subprocess.Popen[str]]:
        """The same of a command that runs until Ctrl-C, which the end of the block is."""
        with (self.home / log).open("w") as output:
            process = self._launch(start, output.fileno(), {drop: ""} if drop else {})
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(PATIENCE)
        assert "Traceback" not in (self.home / log).read_text()

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Make the configuration and run the service until the end of the block."""
        self.type(CONFIG)
        site = self.home / "site.toml"
        text = site.read_text()
        for default, here in self._site.items():
            assert default in text, default
            text = text.replace(default, here)
        site.write_text(text)
        began = time.monotonic()
        with self.typing(RUN, "run.log") as process:
            self.wait_until(lambda: " ready " in self.log() or process.poll() is not None, self.log)
            assert process.poll() is None, self.log()
            self.seconds.append((RUN, time.monotonic() - began))
            yield
        assert " stopped " in self.log()

    def log(self) -> str:
        return (self.home / "run.log").read_text()

    def wait_until(self, true: Callable[[], object], said: Callable[[], str]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, said()
            # Another process is waited for: the only way is to look again.
            time.sleep(0.1)

    def take_frames(self) -> None:
        (self.home / "frames").mkdir()
        for number in range(FRAMES):
            cv2.imwrite(str(self.home / "frames" / f"{number:06d}.png"), self.picture(number)[0])

    def record(self) -> None:
        video = cv2.VideoWriter(
            str(self.home / "recording.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), RATE, (WIDTH, HEIGHT)
        )
        for number in range(FRAMES):
            video.write(self.picture(number)[0])
        video.release()

    def picture(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image and label of a frame of the camera or the recording."""
        return self._street.render(number * 5)

    def report(self) -> str:
        return "".join(f"\n{seconds:7.1f} s  {start.strip()}" for start, seconds in self.seconds)

    def _launch(self, start: str, output: int, words: dict[str, str]) -> subprocess.Popen[str]:
        self.typed.add(start)
        line = command(self._said_by, start)
        for word, here in {**self._hardware, **words}.items():
            line = line.replace(word, here)
        if " stream " in line and "--to" not in line:
            line += f" --to tcp://127.0.0.1{self._hardware[':5555']}"
        lines = [line]
        if start != CONFIG:
            self.typed.add(EXPORT_VARIABLES)
            lines.insert(0, command(self._said_by, EXPORT_VARIABLES))
        return subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", "\n".join(lines)],
            cwd=self.home,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that Ctrl-C reaches the shell and what it runs, and nothing else
        )
