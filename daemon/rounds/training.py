"""Runs a round's trainer within its deadline, and restarts it with smaller batches when memory is short."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.process import TrainerProcess, write_job
from dance_ondevice.daemon.children.watcher import ChildWatcher, Limits
from dance_ondevice.daemon.planning import pace as round_pace
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds.watch import EarlyEnd, Progress, RunResult, watch
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.policies.rounds import shrinking

log = logging.getLogger(__name__)


#: Seconds of a round that a crash may leave uncounted.
_KEPT_EVERY = 30.0


class RoundClock:
    """The clock of one round: seconds since now on the monotonic clock, plus those of its earlier parts.

    A round has one deadline: neither smaller batches nor a restart of the daemon extend it.
    """

    def __init__(
        self,
        store: Store,
        monotonic: Callable[[], float],
        round_id: str,
        *,
        most: float,
        before: float = 0.0,
    ) -> None:
        """Start counting.

        Args:
            store: The store that keeps the seconds.
            monotonic: The clock, in seconds.
            round_id: The round's id.
            most: The seconds that the round may take in all.
            before: The seconds that its earlier parts took.
        """
        self._store = store
        self._monotonic = monotonic
        self._round = round_id
        self._most = most
        self._before = before
        self._started = self._kept_at = monotonic()

    @property
    def seconds(self) -> float:
        """Seconds that the round has run in all."""
        return self._before + self._monotonic() - self._started

    @property
    def deadline(self) -> float:
        """The monotonic second at which the round must end."""
        return self._started + self._most - self._before

    def keep(self) -> Future[Any]:
        """Write the seconds into the round's row."""
        seconds, self._kept_at = self.seconds, self._monotonic()
        return self._store.submit(lambda db: round_record.keep_seconds(db, self._round, seconds))

    def keep_now_and_then(self) -> None:
        """Write the seconds if they were last written some time ago; does not wait for the write."""
        if self._monotonic() - self._kept_at >= _KEPT_EVERY:
            self.keep()


class RoundTraining:
    """Owns the trainer process while a round runs, on the rounds thread."""

    def __init__(
        self,
        watcher: ChildWatcher,
        *,
        priority: Literal["background", "normal"] = "background",
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._watcher = watcher
        self._priority = priority
        self._on_progress = on_progress

    def run(
        self,
        job: jobs.Job,
        job_file: Path,
        size: shrinking.RoundSize,
        *,
        deadline: float,
        must_stop: Callable[[], str | None],
        early: EarlyEnd,
    ) -> tuple[RunResult, shrinking.RoundSize, jobs.Job]:
        """Train; where memory is short, start over with smaller batches, then with smaller images.

        Args:
            job: The round's job.
            job_file: Its file, which is rewritten for each size.
            size: The size of the first attempt.
            deadline: The monotonic second at which all attempts together must end.
            must_stop: See ``Limits``.
            early: When training ends early.
        """
        cpu_seconds = 0.0
        while True:
            result = self._train(job, job_file, deadline, must_stop, early)
            cpu_seconds += result.cpu_seconds or 0.0
            if result.state != "memory":
                break
            smaller = shrinking.shrink(size)
            if smaller is None:
                reason = f"{result.reason}; even {_in_words(size)}, and a round cannot be made smaller"
                result = dataclasses.replace(result, state="failed", reason=reason)
                break
            if self._watcher.stopping.is_set() or must_stop() is not None:
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
        deadline: float,
        must_stop: Callable[[], str | None],
        early: EarlyEnd,
    ) -> RunResult:
        log_file = job_file.parent / "trainer.log"
        return watch(
            TrainerProcess(job_file, log_file, priority=self._priority),
            self._watcher,
            round_id=job.round,
            log_file=log_file,
            limits=Limits(
                deadline=deadline,
                must_stop=must_stop,
            ),
            on_progress=self._on_progress,
            early=early,
        )


def _in_words(size: shrinking.RoundSize) -> str:
    return f"with {size.batch_size} images a step at {size.scale:.0%} of their sides"
