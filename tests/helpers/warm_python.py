"""Children of the tests that need not import torch: they are forked from a process that has done so already.

Importing torch takes two seconds of the processor, most of what a round of tiny images takes. So
``subprocess`` starts the programs below by asking a process that has their modules and nothing else: no
thread, and nothing computed. What comes of it is a process of its own and a child of whoever asked, with its
own memory, arguments, streams and signals. All other commands are started as ever: daemons, and what these
start, too.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

PROGRAMS = (
    "dance_ondevice.benchmarks.slimming.variant_main",
    "dance_ondevice.daemon.trainer.main",
    "dance_ondevice.daemon.trainer.probation_main",
    "dance_ondevice.daemon.trainer.estimation_main",
    "dance_ondevice.daemon.trainer.teacher_main",
    "dance_ondevice.daemon.versions.first_model",
    "dance_ondevice.daemon.versions.tryout",
    "dance_ondevice.daemon.versions.widen",
    "dance_ondevice.daemon.versions.engine_graph",
    "dance_ondevice.daemon.versions.factory",
)
#: What they import only once they run.
_MODULES = ("torch", "dance_ondevice.models.weights", "dance_ondevice.runtime.comparing")
_PYTHON = sys.executable
_PR_SET_CHILD_SUBREAPER = 36
_LARGEST = 1 << 18


class WarmPython:
    """Starts the process that is forked once it is needed, and ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._source: subprocess.Popen[bytes] | None = None
        real, warm = subprocess.Popen, self

        # A class that is made from a variable, which mypy cannot follow.
        class Popen(real):  # type: ignore[type-arg, misc, valid-type]
            # The arguments of the standard library's own method are alike in all versions but for the last.
            def _execute_child(self, args: Any, *rest: Any) -> None:
                _, preexec, _, _, cwd, env, _, _, shell, *pipes = rest[:15]
                found = [] if isinstance(args, str) or shell or preexec else _program(args)
                pid = 0
                if found:
                    request = {
                        "arguments": found,
                        "cwd": str(cwd or Path.cwd()),
                        "environ": dict(os.environ if env is None else env),
                        "session": bool(rest[20]),
                    }
                    ends = zip((pipes[0], pipes[3], pipes[5]), (0, 1, 2), strict=True)
                    pid = warm.fork(request, [own if end == -1 else end for end, own in ends])
                if not pid:
                    super()._execute_child(args, *rest)
                    return
                self.pid, self._child_created = pid, True
                self._close_pipe_fds(*pipes)

        #: What takes the place of ``subprocess.Popen``.
        self.popen = Popen
        self._real = real

    def fork(self, request: dict[str, Any], streams: list[int]) -> int:
        """Start a program; returns its process id, or 0 where it has to be started as ever."""
        with self._lock:
            if self._channel is None:
                self._channel = self._start()
            _adopt_orphans(1)
            try:
                socket.send_fds(self._channel, [json.dumps(request).encode()], streams)
                return int(self._channel.recv(64) or b"0")
            except BrokenPipeError:  # it found that it cannot be forked
                return 0
            finally:
                _adopt_orphans(0)

    def close(self) -> None:
        if self._channel is not None and self._source is not None:
            self._channel.close()
            self._source.wait(60)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._source = self._real(
                [_PYTHON, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            )
        return ours


def _adopt_orphans(adopt: int) -> None:
    """Whether the children of children that end become this process's own."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, adopt, 0, 0, 0)


def _program(command: Sequence[Any]) -> list[str]:
    """A program that is worth it and its arguments; empty for other commands."""
    words = [str(word) for word in command]
    return words[2:] if words[:2] == [_PYTHON, "-m"] and words[2] in PROGRAMS else []


def _serve(channel: socket.socket) -> dict[str, Any]:
    """Fork for each request until nobody can ask any more; returns it in the child, and there alone."""
    for module in (*PROGRAMS, *_MODULES):
        import_module(module)
    gc.collect()
    gc.freeze()
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        sys.exit(1)  # a thread would be missing in the children
    while True:
        data, streams, *_ = socket.recv_fds(channel, _LARGEST, 3)
        if not data:
            sys.exit(0)
        go, born = os.pipe(), os.pipe()
        between = os.fork()
        if not between:
            if child := os.fork():
                os.write(born[1], str(child).encode())
                os._exit(0)
            # Once the process between is gone and has been waited for, this one has the parent that it keeps.
            os.close(go[1])
            os.read(go[0], 1)
            for given, own in zip(streams, (0, 1, 2), strict=True):
                os.dup2(given, own)
            _close(*streams, go[0], *born)
            return dict(json.loads(data))
        os.waitpid(between, 0)
        channel.send(os.read(born[0], 64))
        _close(*streams, *go, *born)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _become(request: dict[str, Any]) -> None:
    """Take over the folder, the environment and the arguments of a program that starts."""
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    own = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
    sys.path[:0] = [request["cwd"], *filter(None, own)]
    sys.argv = request["arguments"]


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, where a program would not look
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        _become(_serve(asked))
    sys.modules.pop(sys.argv[0])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
