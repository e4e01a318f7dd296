"""The daemon as a separate process: its configuration, its start, its end, and its log."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from dance_ondevice.daemon.config.load import toml_value
from dance_ondevice.daemon.control import client, instances
from dance_ondevice.daemon.system.state import StatePaths

log = logging.getLogger(__name__)

#: Seconds from SIGTERM to SIGKILL.
STOP_SECONDS = 60.0
_TAIL_LINES = 25
#: Bytes of the log from which on its older half goes: somebody may look for weeks.
_LOG_BYTES = 16 << 20


class DaemonDied(RuntimeError):  # noqa: N818 - says what happened
    """Error: the daemon ended, or did not become ready; the message contains the end of its log."""


def write_config(path: Path, values: Mapping[str, Mapping[str, object]]) -> None:
    """Write a configuration file; ``values`` maps section -> key -> value."""
    lines = []
    for section, keys in values.items():
        lines += [f"[{section}]", *(f"{key} = {toml_value(value)}" for key, value in keys.items()), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


class DaemonProcess:
    """``dance-ondevice run`` as a context manager: the process has ended when the context is left."""

    def __init__(
        self,
        config: Path,
        state_dir: Path,
        log_file: Path,
        *,
        log_bytes: int = _LOG_BYTES,
        python: Path | None = None,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare a process.

        Args:
            config: Configuration of the daemon.
            state_dir: Its state folder.
            log_file: What it writes to stdout and stderr.
            log_bytes: Bytes of that file from which on its older half goes, at the next ``check``.
            python: Interpreter that runs it, by default this process's.
            environ: Variables beside those of this process.
            cwd: Folder that it starts in, whose packages come first; by default this process's.
            monotonic: Clock, in seconds.
            sleep: Waits for some seconds.
        """
        self.paths = StatePaths(state_dir)
        self._config = config
        self._log_file = log_file
        self._log_bytes = log_bytes
        self._python = str(python or sys.executable)
        self._environ = dict(environ or {})
        self._cwd = cwd
        self._monotonic = monotonic
        self._sleep = sleep
        self._process: subprocess.Popen[bytes] | None = None
        self._runtime: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> DaemonProcess:
        """Start the process."""
        # Commands find a user's daemons through the runtime folder, in which this daemon must not appear.
        # The path must be short: the name of a Unix socket has at most 107 bytes.
        self._runtime = tempfile.TemporaryDirectory(prefix="dance-")
        self._log_file.write_bytes(b"")
        with self._log_file.open("ab") as output:  # appended, so that it may be shortened meanwhile
            self._process = subprocess.Popen(
                [
                    *(self._python, "-m", "dance_ondevice", "run"),
                    *("--config", str(self._config)),
                    *("--state-dir", str(self.paths.root)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._cwd,
                env={**os.environ, **self._environ, "RUNTIME_DIRECTORY": self._runtime.name},
            )
        log.info("daemon started pid=%d log=%s", self._process.pid, self._log_file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process if it still runs."""
        self.stop()
        if self._runtime is not None:
            self._runtime.cleanup()

    def wait_ready(self, timeout: float, on_wait: Callable[[], None]) -> instances.DaemonFile:
        """Wait until the daemon answers; returns its endpoints.

        Args:
            timeout: Longest wait in seconds.
            on_wait: Called between two attempts.

        Raises:
            DaemonDied: The daemon ended, or was not ready within ``timeout`` seconds.
        """
        deadline = self._monotonic() + timeout
        while self._monotonic() < deadline:
            self.check()
            on_wait()
            facts = instances.read_daemon_file(self.paths)
            if facts is not None and self._is_ready(facts):
                return facts
            self._sleep(0.1)
        raise DaemonDied(f"the daemon was not ready within {timeout:g} s; its log ends:\n{self.log_tail()}")

    def _is_ready(self, facts: instances.DaemonFile) -> bool:
        try:
            return bool(client.request(facts.control, "status", timeout=2.0).get("ready"))
        except client.NotRunning:
            return False

    def status(self) -> Mapping[str, Any]:
        """Return the answer of the control socket to ``status``.

        Raises:
            DaemonDied: The daemon has ended.
            ClientError: The daemon does not answer.
        """
        answer: Mapping[str, Any] = self._ask("status")
        return answer

    def pause(self) -> None:
        """Let no further round start; a running one continues.

        Raises:
            DaemonDied: The daemon has ended.
            ClientError: The daemon does not answer.
        """
        self._ask("pause")

    def resume(self) -> None:
        """Let rounds start again.

        Raises:
            DaemonDied: The daemon has ended.
            ClientError: The daemon does not answer.
        """
        self._ask("resume")

    def _ask(self, command: str) -> Any:
        self.check()
        facts = instances.read_daemon_file(self.paths)
        if facts is None:
            raise DaemonDied(f"the daemon left no daemon.json; its log ends:\n{self.log_tail()}")
        return client.request(facts.control, command, timeout=5.0)

    def check(self) -> None:
        """Check that the process runs, and that its log does not grow without end.

        Raises:
            DaemonDied: The process has ended.
        """
        assert self._process is not None
        self._shorten_log()
        status = self._process.poll()
        if status is not None:
            raise DaemonDied(f"the daemon ended with status {status}; its log ends:\n{self.log_tail()}")

    def _shorten_log(self) -> None:
        with contextlib.suppress(OSError):  # the daemon matters, and not its log
            size = self._log_file.stat().st_size
            if size <= self._log_bytes:
                return
            with self._log_file.open("rb") as old:
                old.seek(size - self._log_bytes // 2)
                old.readline()
                newest = old.read()
            os.truncate(self._log_file, 0)
            with self._log_file.open("ab") as out:
                out.write(newest)

    def stop(self) -> int:
        """End the process by SIGTERM, then SIGKILL; returns the exit status (negative: the signal)."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                log.error("daemon did not stop seconds=%g", STOP_SECONDS)
                self._process.kill()
                self._process.wait()
        return self._process.returncode

    def log_tail(self) -> str:
        """Return the last lines of the daemon's log."""
        try:
            text = self._log_file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return "(nothing)"
        return "\n".join(text.splitlines()[-_TAIL_LINES:]) or "(nothing)"
