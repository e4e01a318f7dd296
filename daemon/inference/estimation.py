"""Estimating the statistics of conditions, in a child process, one after the other."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from dance_ondevice.conditions.arrays import ConditionArrays, decode
from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.estimation_jobs import Estimated, EstimationJob, encode_job
from dance_ondevice.daemon.children.process import TrainerProcess, last_error_line
from dance_ondevice.daemon.children.watcher import ChildAccount, ChildWatcher, Limits
from dance_ondevice.daemon.inference.condition_sets import EstimationFailed
from dance_ondevice.files import write_durably

__all__ = ["Estimation"]

log = logging.getLogger(__name__)

_PROGRAM = "dance_ondevice.daemon.trainer.estimation_main"
#: Beside frames of full load such a child gets what is left of one core.
_SECONDS = 600.0


class Estimation:
    """Runs one child at a time on a thread of its own; ``close`` ends it."""

    def __init__(
        self,
        folder: Path,
        cpu: ChildAccount,
        *,
        procfs: Path = Path("/proc"),
        priority: Literal["background", "normal"] = "background",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare without starting anything.

        Args:
            folder: For jobs and results; it is removed after each.
            cpu: The account that the child's CPU seconds are charged to.
            procfs: Root of procfs.
            priority: Processor time of a child; see ``priority``.
            monotonic: Monotonic clock, in seconds.
        """
        self._folder = folder
        #: Of the next child: ``background`` lets it run only when no other program needs the processor. Any
        #: thread may set it.
        self.priority: Literal["background", "normal"] = priority
        self._monotonic = monotonic
        self._stopping = threading.Event()
        # A child dies with the thread that started it, so this one lasts.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="estimation")
        self._watcher = ChildWatcher(
            cpu=cpu, procfs=procfs, stopping=self._stopping, monotonic=monotonic, beat=lambda: None
        )

    def ask(self, version: Path, images: Sequence[bytes]) -> Future[ConditionArrays]:
        """Estimate the statistics of a version for one condition.

        Args:
            version: The version's folder.
            images: Encoded images of the condition.

        Returns:
            The arrays; its exception is ``EstimationFailed`` if the model cannot be estimated, and another
            one if the child was hindered.
        """
        return self._worker.submit(self._run, version, tuple(images))

    def close(self) -> None:
        """Stop the child and wait for its end."""
        self._stopping.set()
        self._worker.shutdown(cancel_futures=True)

    def _run(self, version: Path, images: tuple[bytes, ...]) -> ConditionArrays:
        if self._stopping.is_set():
            raise InterruptedError("the daemon is stopping")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        try:
            return self._in_child(version, images)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _in_child(self, version: Path, images: tuple[bytes, ...]) -> ConditionArrays:
        files = []
        for number, data in enumerate(images):
            file = self._folder / f"{number}.jpg"
            file.write_bytes(data)  # nothing is lost with it
            files.append(str(file))
        out, log_file = self._folder / "estimated.safetensors", self._folder / "child.log"
        job = self._folder / "job.json"
        write_durably(
            job,
            encode_job(EstimationJob(version=str(version), images=tuple(files), out=str(out))),
        )
        events: list[jobs.Event] = []
        ended = self._watcher.run(
            TrainerProcess(
                job, log_file, program=_PROGRAM, priority=self.priority, monotonic=self._monotonic
            ),
            Limits(
                deadline=self._monotonic() + _SECONDS,
                must_stop=lambda: None,
            ),
            events.append,
            workload="inference",
        )
        failed = next((event for event in events if isinstance(event, jobs.Failed)), None)
        if failed is not None and not failed.memory:
            raise EstimationFailed(failed.error)
        if not any(isinstance(event, Estimated) for event in events):
            why = ended.reason or (failed.error if failed else "") or last_error_line(log_file)
            raise RuntimeError(why or f"the child ended with status {ended.exit.status}")
        found, _ = decode(out.read_bytes(), str(out))
        return next(iter(found.values()))
