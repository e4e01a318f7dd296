"""The parent's side of a child process: start it, read its events, and end it."""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.bounded_log import BoundedLog
from dance_ondevice.daemon.children.priority import raise_priority
from dance_ondevice.documents import DocumentError
from dance_ondevice.files import write_durably

log = logging.getLogger(__name__)

#: Seconds between SIGTERM and SIGKILL: time for one optimiser step and a checkpoint.
GRACE_SECONDS = 4.0
#: The same when the daemon stops: its remaining work must also fit into the supervisor's five seconds.
STOP_GRACE_SECONDS = 2.5
_MAX_LINE = 1 << 20


@dataclass(frozen=True)
class Tick:
    """No event came for a while; the caller checks its limits."""


@dataclass(frozen=True, kw_only=True)
class Exit:
    """The process has ended.

    Attributes:
        status: Exit status; a negative one is the signal that killed the process.
        cpu_seconds: User and system CPU seconds of the process; None when the kernel did not report them.
    """

    status: int
    cpu_seconds: float | None


class TrainerProcess:
    """One child process; the thread that starts it must outlive it, since it dies with that thread."""

    def __init__(
        self,
        job_file: Path,
        log_file: Path,
        *,
        program: str = "dance_ondevice.daemon.trainer.main",
        priority: Literal["background", "normal"] = "background",
        tick_seconds: float = 0.5,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a child without starting it.

        Args:
            job_file: The file of its job.
            log_file: The file that receives its standard error.
            program: The module to run; its arguments are the job file, this process's id and the priority.
            priority: ``background`` lets it run only when no other program needs the processor.
            tick_seconds: Seconds without an event after which ``events`` yields a ``Tick``.
            monotonic: Monotonic clock, in seconds.
        """
        self._job_file = job_file
        self._program = program
        self._priority = priority
        self._log_file = log_file
        self._tick = tick_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._messages: queue.Queue[jobs.Event | None] = queue.Queue(maxsize=1024)
        self._reader: threading.Thread | None = None
        self._log: BoundedLog | None = None
        self._monotonic = monotonic
        self._kill_at: float | None = None

    @property
    def pid(self) -> int:
        """Process id; only after ``start``."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the process (a fresh interpreter, never a fork of this one)."""
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                self._program,
                str(self._job_file),
                str(os.getpid()),
                self._priority,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Its own group, so that a Ctrl-C meant for the daemon does not kill it before it is asked to
            # save.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._log = BoundedLog(self._process.stderr, self._log_file)
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="trainer-events", daemon=True
        )
        self._reader.start()

    def events(self) -> Iterator[jobs.Event | Tick | Exit]:
        """Yields the child's events, a ``Tick`` when none came for a while, and one ``Exit`` last."""
        assert self._process is not None
        while True:
            try:
                message = self._messages.get(timeout=self._tick)
            except queue.Empty:
                self._escalate()
                yield Tick()
                continue
            if message is None:
                break
            self._escalate()
            yield message
        yield self._reap()

    def ask_to_leave(self, *, daemon_stops: bool = False) -> None:
        """Send SIGTERM, so that the child saves its state and exits; SIGKILL follows if it does not.

        A second call can only shorten the time it has, never extend it.

        Args:
            daemon_stops: Whether the daemon stops, which makes that time shorter.
        """
        if self._process is None:
            return
        if self._kill_at is None:
            self._kill_at = self._monotonic() + GRACE_SECONDS
            self._signal(signal.SIGTERM)
            if self._process.returncode is None:
                raise_priority(self._process.pid)
        if daemon_stops:
            self._kill_at = min(self._kill_at, self._monotonic() + STOP_GRACE_SECONDS)

    def ask_to_finish(self) -> None:
        """Send SIGUSR1, so that the trainer stops training, then judges and saves its result."""
        self._signal(signal.SIGUSR1)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def end(self) -> Exit:
        """Send SIGKILL and wait for the exit; events that are still unread are dropped."""
        self.kill()
        for event in self.events():
            if isinstance(event, Exit):
                return event
        raise AssertionError("the events of a child end with its exit")

    def _escalate(self) -> None:
        if self._kill_at is not None and self._monotonic() >= self._kill_at:
            log.warning("child killed job=%s reason=it did not exit in time", self._job_file)
            self.kill()

    def _signal(self, number: int) -> None:
        # Popen.send_signal checks for an exit first, so a reused pid is never hit.
        if self._process is not None:
            self._process.send_signal(number)

    def _reap(self) -> Exit:
        assert self._process is not None
        assert self._reader is not None
        cpu_seconds = None
        if self._process.returncode is None:  # else send_signal found that it had exited and took its status
            _pid, status, usage = os.wait4(self._process.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)
            cpu_seconds = usage.ru_utime + usage.ru_stime
        self._reader.join()
        if self._log is not None:
            self._log.finish()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return Exit(status=self._process.returncode, cpu_seconds=cpu_seconds)

    def _read(self, stream: IO[bytes]) -> None:
        """Turn lines into events; lines that are not events are dropped and counted, in bounded memory."""
        garbage = 0
        try:
            while line := stream.readline(_MAX_LINE):
                try:
                    self._messages.put(jobs.decode_event(line))
                except DocumentError:
                    garbage += 1
        finally:
            # Needed however reading ends: without this mark ``events`` would wait forever.
            self._messages.put(None)
            if garbage:
                log.warning("child wrote lines that are not events lines=%d", garbage)


def write_job(folder: Path, job: jobs.Job | jobs.ProbationJob) -> Path:
    """Write ``job.json`` durably into the round's folder; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "job.json"
    write_durably(path, jobs.encode(job))
    return path


def last_error_line(path: Path) -> str:
    """The last line that a crashed child wrote, for the record; empty when there is none."""
    try:
        lines = path.read_bytes()[-4096:].decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""
