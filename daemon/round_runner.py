"""Watches one trainer from start to end, and stops it at the first limit that it reaches."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dance_ondevice.daemon import job as jobs
from dance_ondevice.daemon.cputime import resident_bytes
from dance_ondevice.daemon.trainer import Exit, TrainerProcess, last_error_line, trim_log

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a round may not exceed.

    Attributes:
        deadline: monotonic second at which it must end.
        resident_bytes: memory of the trainer.
        must_stop: says why the energy budget ends the round now, or None; called about twice a second.
    """

    deadline: float
    resident_bytes: int
    must_stop: Callable[[], str | None]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How the trainer ended.

    Attributes:
        state: ``done``: candidate on disk; ``interrupted``: saved its state because the daemon stops;
            ``stopped``: ended at a limit; ``failed``.
        reason: in words, for every state but done.
        steps: optimiser steps taken.
        cpu_seconds: what the process used, None if unknown.
    """

    state: str
    reason: str
    steps: int
    cpu_seconds: float | None
    scores: dict[str, jobs.ScoreCard] = field(default_factory=dict)
    slimmed: jobs.Slimmed | None = None
    done: jobs.Done | None = None


@dataclass(frozen=True)
class Progress:
    """Where the running round is, for ``status``."""

    round: str
    step: int
    steps: int
    loss: float | None


def watch(
    process: TrainerProcess,
    *,
    round_id: str,
    log_file: Path,
    limits: Limits,
    procfs: Path,
    stopping: threading.Event,
    monotonic: Callable[[], float],
    on_progress: Callable[[Progress], None],
) -> RunResult:
    """Follow a started trainer to its end."""
    scores: dict[str, jobs.ScoreCard] = {}
    slimmed: jobs.Slimmed | None = None
    done: jobs.Done | None = None
    error = stop_reason = ""
    saved = interrupted = False
    step = 0
    status = Exit(status=-1, cpu_seconds=None)
    for event in process.events():
        match event:
            case jobs.Stepped(step=step, steps=steps, loss=loss):
                on_progress(Progress(round_id, step, steps, loss))
            case jobs.Evaluated(model=model, scores=found):
                scores[model] = found
            case jobs.Slimmed():
                slimmed = event
            case jobs.Done():
                done = event
            case jobs.Stopped():
                saved = True
            case jobs.Failed(error=error):
                pass
            case Exit():
                status = event
                break
            case _:
                pass
        if stopping.is_set() and not stop_reason:
            interrupted, stop_reason = True, "the daemon is stopping"
            process.ask_to_leave()
        elif not stop_reason:
            stop_reason = _limit_reached(process, limits, procfs, monotonic()) or ""
            if stop_reason:
                log.warning("round stopping round=%s reason=%s", round_id, stop_reason)
                process.ask_to_leave()
    trim_log(log_file)

    def result(state: str, reason: str) -> RunResult:
        return RunResult(
            state=state,
            reason=reason,
            steps=step,
            cpu_seconds=status.cpu_seconds,
            scores=scores,
            slimmed=slimmed,
            done=done,
        )

    if done is not None and status.status == 0:
        return result("done", "")
    if interrupted:
        return result("interrupted" if saved else "failed", stop_reason)
    if stop_reason:
        return result("stopped", stop_reason)
    return result("failed", error or _exit_reason(status.status, log_file))


def _limit_reached(process: TrainerProcess, limits: Limits, procfs: Path, now: float) -> str | None:
    if now >= limits.deadline:
        return "the round took longer than training.max_round_duration"
    resident = resident_bytes(procfs, process.pid) or 0
    if resident > limits.resident_bytes:
        return (
            f"the trainer used {resident / 2**20:.0f} MiB of memory, "
            f"more than the {limits.resident_bytes / 2**20:.0f} MiB this board can spare"
        )
    return limits.must_stop()


def _exit_reason(status: int, log_file: Path) -> str:
    if status < 0:
        return f"the trainer was killed by signal {-status}"
    tail = last_error_line(log_file)
    return f"the trainer ended with status {status}" + (f": {tail}" if tail else "")


def available_memory(procfs: Path) -> int:
    """Bytes that a new process may use without swapping (``MemAvailable``); a large number if unknown."""
    try:
        for line in (procfs / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 1 << 40
