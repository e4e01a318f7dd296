"""Runs a round's trainer, and starts it over smaller where it does not fit the memory."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.process import TrainerProcess, write_job
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.planning import pace as round_pace
from dance_ondevice.daemon.rounds.context import RoundContext
from dance_ondevice.daemon.rounds.watch import Limits, Progress, RunResult, available_memory, watch
from dance_ondevice.policies.rounds import shrinking

log = logging.getLogger(__name__)

#: Share of the memory available at its start that a round may use.
MEMORY_SHARE = 0.75


def memory_limit(procfs: Path) -> int:
    """Bytes that a trainer which starts now may use."""
    return int(MEMORY_SHARE * available_memory(procfs))


class RoundTraining:
    """Owns the trainer process while a round runs; used by the rounds thread alone."""

    def __init__(
        self,
        context: RoundContext,
        *,
        on_progress: Callable[[Progress | None], None],
        stopping: threading.Event,
    ) -> None:
        self._c = context
        self._on_progress = on_progress
        self._stopping = stopping

    def run(
        self,
        job: jobs.Job,
        job_file: Path,
        size: shrinking.RoundSize,
        must_stop: Callable[[], str | None],
        nearly_spent: Callable[[], str | None],
    ) -> tuple[RunResult, shrinking.RoundSize, jobs.Job]:
        """Train; where memory is short, start over with smaller batches, then with smaller images."""
        cpu_seconds = 0.0
        while True:
            result = self._train(job, job_file, must_stop, nearly_spent)
            cpu_seconds += result.cpu_seconds or 0.0
            if result.state != "memory":
                break
            smaller = shrinking.shrink(size)
            if smaller is None:
                reason = f"{result.reason}; even {_in_words(size)}, and a round cannot be made smaller"
                result = dataclasses.replace(result, state="failed", reason=reason)
                break
            if self._stopping.is_set() or must_stop() is not None:
                result = dataclasses.replace(result, state="stopped")
                break
            log.warning(
                "round shrinks round=%s batch_size=%d scale=%.2f reason=%s",
                job.round, smaller.batch_size, smaller.scale, result.reason,
            )  # fmt: skip
            shutil.rmtree(job.checkpoint, ignore_errors=True)
            job, size = round_pace.resized(job, smaller, before=size.scale), smaller
            write_job(job_file.parent, job)
        return dataclasses.replace(result, cpu_seconds=cpu_seconds or result.cpu_seconds), size, job

    def _train(
        self,
        job: jobs.Job,
        job_file: Path,
        must_stop: Callable[[], str | None],
        nearly_spent: Callable[[], str | None],
    ) -> RunResult:
        c = self._c
        log_file = job_file.parent / "trainer.log"
        process = TrainerProcess(job_file, log_file, priority=c.config.training.priority)
        process.start()
        c.energy.cpu.attach_trainer(process.pid)
        result = None
        try:
            result = watch(
                process,
                round_id=job.round,
                log_file=log_file,
                limits=Limits(
                    deadline=c.monotonic() + parse_duration(c.config.training.max_round_duration),
                    resident_bytes=memory_limit(c.procfs),
                    must_stop=must_stop,
                    nearly_spent=nearly_spent,
                    min_gain=c.config.promotion.min_gain,
                ),
                procfs=c.procfs,
                stopping=self._stopping,
                monotonic=c.monotonic,
                on_progress=self._on_progress,
            )
        finally:
            if result is None:
                process.kill()
            c.energy.cpu.detach_trainer(result.cpu_seconds if result else None)
        return result


def _in_words(size: shrinking.RoundSize) -> str:
    return f"with {size.batch_size} images a step at {size.scale:.0%} of their sides"
