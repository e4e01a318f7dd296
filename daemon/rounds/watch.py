"""Follows one round's trainer from start to end, and ends its training early when joules run short."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.counts import ScoreCard
from dance_ondevice.daemon.children.jobs import NO_STEPS
from dance_ondevice.daemon.children.process import TrainerProcess, last_error_line
from dance_ondevice.daemon.children.watcher import ChildWatcher, Ended, Limits
from dance_ondevice.files import write_durably
from dance_ondevice.policies.rounds import pace

log = logging.getLogger(__name__)

#: A line of the log tells how far a round is, at most once in so many seconds.
_LOG_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class EarlyEnd:
    """When a round's training ends early so that the result can still be judged within the allowance.

    Attributes:
        nearly_spent: Returns why training must end now, or None.
        min_gain: The mIoU that promotion will ask for.
    """

    nearly_spent: Callable[[], str | None] = lambda: None
    min_gain: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How the trainer ended.

    Attributes:
        state: ``done``: the candidate is on disk; ``hopeless``: the trainer gave up because promotion was out
            of reach; ``interrupted``: the daemon stops and its next start resumes the round; ``memory``: it
            needed more memory than there is; ``stopped``: it ended at another limit; ``failed``.
        reason: Why it ended so, in words; for ``done``, why it ended early if it did.
        steps: Optimiser steps taken.
        cpu_seconds: CPU seconds of the process; None if unknown.
        peak_bytes: The largest resident memory that was measured.
        curve: mIoU on some of the gate samples during the round; None if it was never evaluated.
        unreadable: Samples that were left out, and why.
        device: Where it trained, and why there if it was to be elsewhere; None if it did not come so far.
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
    unreadable: tuple[jobs.Unreadable, ...] = ()
    device: jobs.OnDevice | None = None

    @property
    def device_note(self) -> str:
        """Why it trained on the CPU although there is or should be a GPU; empty without such a reason."""
        if self.device is None or not self.device.reason:
            return ""
        return f"trained on the CPU: {self.device.reason}"


@dataclass(frozen=True)
class Progress:
    """The progress of the running round, for ``status``.

    Attributes:
        round: The round's id.
        step: Number of optimiser steps taken; 0 while the trainer starts.
        steps: Number of steps of the whole round.
        loss: Loss of the last step.
        miou: The candidate's present mIoU on some of the held-out samples; None before it was evaluated.
        live_miou: The live model's mIoU on the same samples.
        joules: Gross joules that it has spent; None where they are unknown.
    """

    round: str
    step: int
    steps: int
    loss: float | None
    miou: float | None = None
    live_miou: float | None = None
    joules: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the control socket."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class ProgressNotes:
    """Adds to the trainer's reports what the round has spent, and logs one of them now and then."""

    def __init__(
        self,
        on_progress: Callable[[Progress], None],
        spent: Callable[[], float | None],
        monotonic: Callable[[], float],
    ) -> None:
        """``spent`` returns the gross joules that the round has used, None where they are not known yet."""
        self._on_progress = on_progress
        self._spent = spent
        self._monotonic = monotonic
        self._logged_at = monotonic()

    def report(self, progress: Progress) -> None:
        """Pass on where the round is."""
        progress = replace(progress, joules=self._spent())
        self._on_progress(progress)
        if self._monotonic() - self._logged_at >= _LOG_SECONDS:
            self._logged_at = self._monotonic()
            log.info(
                "round training round=%s step=%d steps=%d loss=%s miou=%s joules=%s",
                progress.round, progress.step, progress.steps,
                *(_figure(value) for value in (progress.loss, progress.miou, progress.joules)),
            )  # fmt: skip


def watch(
    process: TrainerProcess,
    watcher: ChildWatcher,
    *,
    round_id: str,
    log_file: Path,
    limits: Limits,
    on_progress: Callable[[Progress], None],
    early: EarlyEnd | None = None,
) -> RunResult:
    """Start a trainer and follow it to its end; returns how it ended."""
    watching = _Watch(process, round_id, early or EarlyEnd(), on_progress)
    ended = watcher.run(process, limits, watching.take, within=watching.end_early)
    result = watching.result(ended, log_file)
    if result.state == "interrupted":
        _mark_resumable(log_file.parent)
    return result


class _Watch:
    """The events of one trainer so far, and the requests that were made to it."""

    def __init__(
        self,
        process: TrainerProcess,
        round_id: str,
        early: EarlyEnd,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._process = process
        self._round = round_id
        self._end = early
        self._on_progress = on_progress
        self._scores: dict[str, ScoreCard] = {}
        self._slimmed: jobs.Slimmed | None = None
        self._timed: jobs.Timed | None = None
        self._done: jobs.Done | None = None
        self._failed: jobs.Failed | None = None
        self._gave_up = ""
        self._unreadable: list[jobs.Unreadable] = []
        self._device: jobs.OnDevice | None = None
        self._points: list[jobs.CurvePoint] = []
        self._step = self._steps = 0
        self._early = self._too_early = ""

    def take(self, event: jobs.Event) -> None:
        """Record an event of the trainer."""
        match event:
            case jobs.Stepped(step=step, steps=steps, loss=loss):
                self._step, self._steps = step, steps
                live, miou = (self._points[-1].live, self._points[-1].miou) if self._points else (None, None)
                self._on_progress(Progress(self._round, step, steps, loss, miou, live))
            case jobs.Evaluated(model=model, scores=found):
                self._scores[model] = found
            case jobs.Slimmed():
                self._slimmed = event
            case jobs.CurvePoint():
                self._points.append(event)
            case jobs.Timed():
                self._timed = event
            case jobs.GaveUp(reason=reason):
                self._gave_up = reason
            case jobs.Done(steps=steps):
                # A round that was interrupted while it was judged had taken all its steps before.
                self._step, self._done = steps, event
            case jobs.Unreadable():
                self._unreadable.append(event)
            case jobs.OnDevice():
                self._device = event
            case jobs.Stopped(step=step):
                self._step = step
            case jobs.Failed():
                self._failed = event
            case _:
                pass

    def end_early(self) -> None:
        """Ask the trainer to stop training and judge its result while the joules for that are still there."""
        if not self._trains():
            return
        reason = self._end.nearly_spent()
        if not reason:
            return
        if pace.may_finish(self._curve(), self._step, self._end.min_gain):
            self._early = f"ended after {self._step} of {self._steps} steps and judged as it is: {reason}"
            log.info("round ends early round=%s step=%d reason=%s", self._round, self._step, reason)
            self._process.ask_to_finish()
        else:
            self._too_early = reason
            log.warning("round stopping round=%s reason=%s", self._round, reason)
            self._process.ask_to_leave()

    def result(self, ended: Ended, log_file: Path) -> RunResult:
        """The result of the run, after the process has ended."""
        state, reason = self._ending(ended, log_file)
        return RunResult(
            state=state,
            reason=reason,
            steps=self._step,
            cpu_seconds=ended.exit.cpu_seconds,
            peak_bytes=ended.peak_bytes,
            scores=self._scores,
            slimmed=self._slimmed,
            timed=self._timed,
            curve=self._curve(),
            done=self._done,
            unreadable=tuple(self._unreadable),
            device=self._device,
        )

    def _trains(self) -> bool:
        """Whether the trainer is between its first and its last step; only then can it be asked to judge."""
        return 0 < self._step < self._steps and not (self._early or self._too_early) and self._done is None

    def _curve(self) -> pace.Curve | None:
        if not self._points:
            return None
        return pace.Curve(
            live=self._points[0].live,
            start=self._points[0].miou,
            points=tuple((point.step, point.miou) for point in self._points if point.step > 0),
            steps=self._steps,
        )

    def _ending(self, ended: Ended, log_file: Path) -> tuple[str, str]:
        status = ended.exit.status
        if self._done is not None and status == 0:
            return "done", self._early
        if self._gave_up and status == 0:
            return "hopeless", self._gave_up
        if self._too_early:
            return "stopped", self._too_early
        if ended.limit:
            states = {"stopping": "interrupted", "memory": "memory"}
            return states.get(ended.limit, "stopped"), ended.reason
        if self._failed is not None:
            return "memory" if self._failed.memory else "failed", self._failed.error
        if ended.killed_for_memory:
            return "memory", "the kernel ended the trainer for want of memory"
        return "failed", _exit_reason(status, log_file)


def _mark_resumable(folder: Path) -> None:
    """Let the next start resume a round whose trainer had no state to save yet."""
    mark = folder / "checkpoint" / "complete"
    try:
        mark.parent.mkdir(exist_ok=True)
        if not mark.exists():
            write_durably(mark, NO_STEPS)
    except OSError as error:
        log.warning("interrupted round cannot be resumed folder=%s error=%s", folder, error)


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _exit_reason(status: int, log_file: Path) -> str:
    if status < 0:
        return f"the trainer was killed by signal {-status}"
    tail = last_error_line(log_file)
    return f"the trainer ended with status {status}" + (f": {tail}" if tail else "")
