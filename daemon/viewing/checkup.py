"""Runs ``dance-ondevice doctor`` beside the daemon, one run at a time, and keeps its result."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from dance_ondevice.documents import DocumentError, decode

__all__ = ["Checkup", "options_of"]

_MOST_BYTES = 1 << 20
_SECONDS = 300.0


class Checkup:
    """Owns at most one process; for the thread of the console's socket alone, which closes it."""

    def __init__(
        self,
        options: Sequence[str],
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``options`` name the configuration and the state folder, as on the command line."""
        self._command = [sys.executable, "-m", "dance_ondevice", "doctor", "--json", *options]
        self._now = now
        self._monotonic = monotonic
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._began = 0.0
        self._last: dict[str, Any] = {"checks": None, "at": None, "error": ""}

    def start(self) -> dict[str, Any]:
        """Begin a run, unless one is going on."""
        if not self.report()["running"]:
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the run is collected
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.DEVNULL
            )
            self._began = self._monotonic()
        return self.report()

    def report(self) -> dict[str, Any]:
        """``running``, the ``checks`` of the last run, ``at`` which second it ended, and its ``error``."""
        process = self._process
        if process is not None:
            if process.poll() is None and self._monotonic() - self._began > _SECONDS:
                process.kill()
                process.wait()
            if process.poll() is not None:
                self._collect(process)
        return {"running": self._process is not None, **self._last}

    def close(self) -> None:
        """End a run that is going on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None

    def _collect(self, process: subprocess.Popen[bytes]) -> None:
        assert self._output is not None
        with self._output as output:
            output.seek(0)
            data = output.read(_MOST_BYTES)
        self._process = self._output = None
        try:
            checks: Any = decode(data, list[dict[str, str]])
            self._last = {"checks": checks, "at": self._now(), "error": ""}
        except DocumentError:
            error = f"`dance-ondevice doctor` ended with status {process.returncode}; run it by hand"
            self._last = {"checks": None, "at": self._now(), "error": error}


def options_of(config: Path | None, state: Path) -> list[str]:
    """The options that name a configuration file and a state folder."""
    return [*(["--config", str(config)] if config else []), "--state-dir", str(state)]
