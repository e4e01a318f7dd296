"""The console on what a demonstration left: its daemon and its camera run on while somebody looks."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.demo.process import DaemonDied, DaemonProcess
from dance_ondevice.demo.run import PHASES, READY_SECONDS, SIZE, STREAM_STRIDE
from dance_ondevice.demo.session import CameraLink, Progress, StreamOptions
from dance_ondevice.demo.workspace import Workspace

#: Slower than the demonstration, which is in a hurry; and frames without a label are there to be labelled.
_CAMERA = StreamOptions(fps=4.0, label_every=4)
#: Frames of a light before the next one.
_FRAMES_A_LIGHT = 240


def look(workspace: Workspace, log_file: Path, *, seed: int, listen: str, say: Callable[[str], None]) -> None:
    """Start daemon, camera and console, and go on until Ctrl-C.

    Args:
        workspace: What the demonstration left.
        seed: Of its street.
        log_file: What the daemon writes to stdout and stderr.
        listen: HOST:PORT of the console.
        say: Takes a line for the user. The console itself prints its address.

    Raises:
        DaemonDied: The daemon or the console ended.
        OSError: One of them cannot be started.
    """
    street = StreetCamera(seed=seed, height=SIZE[0], width=SIZE[1])
    with DaemonProcess(workspace.config, workspace.state, log_file) as daemon:
        say("starting the daemon ...")
        facts = daemon.wait_ready(READY_SECONDS, lambda: None)
        with _console(workspace, listen) as console, CameraLink(facts, _CAMERA, Progress()) as link:
            say("the camera goes on through day, dusk and rain, and rounds run; Ctrl-C ends it")
            due = time.monotonic()
            for index, light in _lights():
                frame, label = street.render(index * STREAM_STRIDE, light)
                now = time.time()
                # Numbers of the clock, since the daemon stores a number of a camera once.
                link.send(round(now * 1000), frame, None if index % _CAMERA.label_every else label, now)
                due = max(due + 1 / _CAMERA.fps, time.monotonic())
                while (left := due - time.monotonic()) > 0:
                    link.receive(left)
                daemon.check()
                if console.poll() is not None:
                    raise DaemonDied(f"the console ended with status {console.returncode}; see above")


@contextlib.contextmanager
def _console(workspace: Workspace, listen: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        *(sys.executable, "-m", "dance_ondevice", "console", "--listen", listen),
        *("--config", str(workspace.config), "--state-dir", str(workspace.state)),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            # Ctrl-C has reached it already, SIGTERM has not. It has nothing to save.
            process.terminate()


def _lights() -> Iterator[tuple[int, str]]:
    order = list(dict.fromkeys(p.condition for p in PHASES))
    for index in itertools.count():
        yield index, order[index // _FRAMES_A_LIGHT % len(order)]
