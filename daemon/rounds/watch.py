"""Watches one trainer from start to end, and stops it at the first limit that it reaches."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.counts import ScoreCard
from dance_ondevice.daemon.children.jobs import NO_STEPS
from dance_ondevice.daemon.children.process import Exit, Tick, TrainerProcess, last_error_line
from dance_ondevice.daemon.energy.cputime import resident_bytes
from dance_ondevice.daemon.system.state import atomic_write
from dance_ondevice.policies.rounds import pace

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a round may not exceed.

    Attributes:
        deadline: monotonic second at which it must end.
        resident_bytes: memory of the trainer.
        must_stop: says why the energy budget ends the round now, or None; called about twice a second.
        nearly_spent: says why training must end now if what there is shall still be judged within the
            allowance, or None.
        min_gain: mIoU that promotion will ask for.
    """

    deadline: float
    resident_bytes: int
    must_stop: Callable[[], str | None]
    nearly_spent: Callable[[], str | None] = lambda: None
    min_gain: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How the trainer ended.

    Attributes:
        state: ``done``: candidate on disk; ``hopeless``: it gave up, since promotion was out of reach;
            ``interrupted``: the daemon stops and the next one goes on with it; ``memory``: it needed more
            than there is; ``stopped``: ended at another limit; ``failed``.
        reason: in words, for every state but done; for done, why it ended early if it did.
        steps: optimiser steps taken.
        cpu_seconds: what the process used, None if unknown.
        peak_bytes: the most resident memory that was seen.
        curve: mIoU on some of the gate samples as the round went on; None if it was never looked at.
    """

    state: str
    reason: str
    steps: int
    cpu_seconds: float | None
    peak_bytes: int = 0
    scores: dict[str, ScoreCard] = field(default_factory=dict)
    slimmed: jobs.Slimmed | None = None
    timed: jobs.Timed | None = None
    curve: pace.Curve | None = None
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
    watching = _Watch(process, round_id, limits, procfs, on_progress)
    oom_kills = _oom_kills(procfs)
    for event in process.events():
        watching.take(event)
        if isinstance(event, Exit):
            break
        watching.hold_limits(stopping.is_set(), monotonic())
    killed_for_memory = watching.status.status == -signal.SIGKILL and _oom_kills(procfs) > oom_kills
    result = watching.result(log_file, killed_for_memory=killed_for_memory)
    if result.state == "interrupted":
        _mark_resumable(log_file.parent)
    return result


class _Watch:
    """What one trainer has said, and what it was asked for."""

    def __init__(
        self,
        process: TrainerProcess,
        round_id: str,
        limits: Limits,
        procfs: Path,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._process = process
        self._round = round_id
        self._limits = limits
        self._procfs = procfs
        self._on_progress = on_progress
        self.status = Exit(status=-1, cpu_seconds=None)
        self._scores: dict[str, ScoreCard] = {}
        self._slimmed: jobs.Slimmed | None = None
        self._timed: jobs.Timed | None = None
        self._done: jobs.Done | None = None
        self._failed: jobs.Failed | None = None
        self._gave_up = ""
        self._looks: list[jobs.Looked] = []
        self._step = self._steps = self._peak = 0
        self._interrupted = self._out_of_memory = False
        self._stop_reason = self._early = ""

    def take(self, event: jobs.Event | Tick | Exit) -> None:
        """Take note of what the trainer said."""
        match event:
            case jobs.Stepped(step=step, steps=steps, loss=loss):
                self._step, self._steps = step, steps
                self._on_progress(Progress(self._round, step, steps, loss))
            case jobs.Evaluated(model=model, scores=found):
                self._scores[model] = found
            case jobs.Slimmed():
                self._slimmed = event
            case jobs.Looked():
                self._looks.append(event)
            case jobs.Timed():
                self._timed = event
            case jobs.GaveUp(reason=reason):
                self._gave_up = reason
            case jobs.Done(steps=steps):
                # Of a round that was interrupted while it was judged, all steps were done before.
                self._step, self._done = steps, event
            case jobs.Stopped(step=step):
                self._step = step
            case jobs.Failed():
                self._failed = event
            case Exit():
                self.status = event
            case _:
                pass

    def hold_limits(self, stopping: bool, now: float) -> None:
        """End the trainer where it must end, or have it judge what it has learnt so far."""
        if stopping:
            self._leave_soon()
        if self._stop_reason:
            return
        reason = self._limit_reached(now)
        if reason is None and self._trains():
            reason = self._limits.nearly_spent()
            if reason and pace.may_finish(self._curve(), self._step, self._limits.min_gain):
                self._early = f"ended after {self._step} of {self._steps} steps and judged as it is: {reason}"
                log.info("round ends early round=%s step=%d reason=%s", self._round, self._step, reason)
                self._process.ask_to_finish()
                return
        if reason:
            self._stop_reason = reason
            log.warning("round stopping round=%s reason=%s", self._round, reason)
            self._process.ask_to_leave()

    def result(self, log_file: Path, *, killed_for_memory: bool) -> RunResult:
        """How it ended."""
        state, reason = self._ending(log_file, killed_for_memory)
        return RunResult(
            state=state,
            reason=reason,
            steps=self._step,
            cpu_seconds=self.status.cpu_seconds,
            peak_bytes=self._peak,
            scores=self._scores,
            slimmed=self._slimmed,
            timed=self._timed,
            curve=self._curve(),
            done=self._done,
        )

    def _leave_soon(self) -> None:
        """The daemon stops: the trainer leaves, if need be without its last step."""
        if not self._stop_reason:  # else it was asked already, and that is how the round ends
            self._interrupted, self._stop_reason = True, "the daemon is stopping"
        self._process.ask_to_leave(daemon_stops=True)

    def _trains(self) -> bool:
        """Whether it is amid its steps: before them is nothing to judge, after them it is being judged."""
        return 0 < self._step < self._steps and not self._early and self._done is None

    def _curve(self) -> pace.Curve | None:
        if not self._looks:
            return None
        return pace.Curve(
            live=self._looks[0].live,
            start=self._looks[0].miou,
            points=tuple((look.step, look.miou) for look in self._looks if look.step > 0),
            steps=self._steps,
        )

    def _limit_reached(self, now: float) -> str | None:
        limits = self._limits
        if now >= limits.deadline:
            return "the round took longer than training.max_round_duration"
        resident = resident_bytes(self._procfs, self._process.pid) or 0
        self._peak = max(self._peak, resident)
        if resident > limits.resident_bytes:
            self._out_of_memory = True
            return (
                f"the trainer used {resident / 2**20:.0f} MiB of memory, "
                f"more than the {limits.resident_bytes / 2**20:.0f} MiB this board can spare"
            )
        return limits.must_stop()

    def _ending(self, log_file: Path, killed_for_memory: bool) -> tuple[str, str]:
        if self._done is not None and self.status.status == 0:
            return "done", self._early
        if self._gave_up and self.status.status == 0:
            return "hopeless", self._gave_up
        if self._interrupted:
            return "interrupted", self._stop_reason
        if self._stop_reason:
            return "memory" if self._out_of_memory else "stopped", self._stop_reason
        if self._failed is not None:
            return "memory" if self._failed.memory else "failed", self._failed.error
        if killed_for_memory:
            return "memory", "the kernel ended the trainer for want of memory"
        return "failed", _exit_reason(self.status.status, log_file)


def _mark_resumable(folder: Path) -> None:
    """Let the next start go on with a round also where its trainer had no state to save yet."""
    mark = folder / "checkpoint" / "complete"
    try:
        mark.parent.mkdir(exist_ok=True)
        if not mark.exists():
            atomic_write(mark, NO_STEPS)
    except OSError as error:
        log.warning("interrupted round will not go on folder=%s error=%s", folder, error)


def _exit_reason(status: int, log_file: Path) -> str:
    if status < 0:
        return f"the trainer was killed by signal {-status}"
    tail = last_error_line(log_file)
    return f"the trainer ended with status {status}" + (f": {tail}" if tail else "")


def _oom_kills(procfs: Path) -> int:
    """How often the kernel has killed a process for want of memory; 0 where /proc/vmstat does not tell."""
    try:
        for line in (procfs / "vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0


def available_memory(procfs: Path) -> int:
    """Bytes that a new process may use without swapping (``MemAvailable``); a large number if unknown."""
    try:
        for line in (procfs / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 1 << 40
