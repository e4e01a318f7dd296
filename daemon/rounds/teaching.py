"""Labelling by a teacher: when it runs, on which samples, for how many joules, and storing its masks.

Runs on the rounds thread, between rounds, so that the board never runs two heavy children at once and only
one of them charges the energy account. A teacher that fails is retried at growing intervals; nothing else
waits for it.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.process import TrainerProcess, last_error_line
from dance_ondevice.daemon.children.teacher_jobs import Calibrated, Taught, TeacherJob, encode_job
from dance_ondevice.daemon.children.watcher import Ended, Limits
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.curation import unreadable
from dance_ondevice.daemon.energy.meters import full_load_watts
from dance_ondevice.daemon.energy.reservation import Reservation
from dance_ondevice.daemon.rounds import teaching_record as record
from dance_ondevice.daemon.rounds.context import RoundContext
from dance_ondevice.daemon.rounds.teaching_record import TeacherFacts, configured
from dance_ondevice.daemon.store.label_source import stamp
from dance_ondevice.daemon.store.samples import LabelProtected, StoreError, UnknownSample
from dance_ondevice.daemon.system.cores import usable
from dance_ondevice.files import write_durably
from dance_ondevice.policies.samples import labelling

__all__ = ["Teaching", "TeachingState"]

log = logging.getLogger(__name__)

#: With fewer unlabelled samples than this, starting a process costs more than the labels are worth.
LEAST_SAMPLES = 8
#: Seconds at full load that a start and one image are assumed to take before any run was measured.
_START_SECONDS = 30.0
_IMAGE_SECONDS = 3.0
_STORE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class TeachingState:
    """The state of the teacher in ``status``.

    Attributes:
        state: ``off``, ``waiting``, ``running``, ``failed`` or ``untrusted``.
        reason: Why it is in that state, in words; empty for off and running.
        teacher: The teacher's name.
        labelled: Number of labels that it made since the daemon started.
        failures: Number of failures in a row.
        retry_in_s: Seconds until a failed teacher is tried again, counted from when this was published.
        last: The record of the last run.
    """

    state: str = "off"
    reason: str = ""
    teacher: str = ""
    labelled: int = 0
    failures: int = 0
    retry_in_s: float | None = None
    last: dict[str, object] | None = None

    def as_dict(self) -> dict[str, object]:
        """Plain data for the control socket."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass
class _Run:
    """The purpose and the results so far of one run, which keeps the configuration that it began with."""

    config: Config
    facts: TeacherFacts
    plan: record.Plan
    looked_at: int = 0
    labelled: int = 0
    calibrated_on: int | None = None
    frames: tuple[tuple[int, int], ...] = ()
    label_agreement: float | None = None
    thresholds: tuple[float, ...] = ()
    agreements: list[tuple[float, float]] = field(default_factory=list)
    outcome: str = "failed"
    reason: str = ""
    cpu_seconds: float | None = None

    @property
    def agreement_with_teacher(self) -> float | None:
        """Share of accepted pixels on which the live model agrees with the teacher; None without any."""
        accepted = sum(share for share, _ in self.agreements)
        return sum(share * same for share, same in self.agreements) / accepted if accepted else None


class Teaching:
    """Owns the teacher process on the rounds thread; any thread may read ``state``."""

    def __init__(
        self,
        context: RoundContext,
        *,
        stopping: threading.Event,
        beat: Callable[[], None],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._c = context
        self._stopping = stopping
        self._beat = beat
        self._on_change = on_change
        self._folder = context.paths.root / "teaching"
        self._retry_at: float | None = None
        self.state = TeachingState()

    def recover(self) -> None:
        """At start-up: close runs that a crash left open as failed."""
        self._c.store.submit(lambda db: record.fail_open_runs(db, self._c.now())).result(_STORE_SECONDS)

    def run(self) -> None:
        """Run the teacher if one is configured, there are samples to label, and energy is left for it."""
        c, config = self._c, self._c.config
        facts = configured(config, c.versions)
        if facts is None:
            self._publish(TeachingState())
            return
        if isinstance(facts, str):
            self._publish(replace(self.state, state="failed", reason=facts))
            return
        if self.state.teacher not in ("", facts.name):
            self._retry_at = None  # the teacher that failed was another one
            self._publish(TeachingState(labelled=self.state.labelled))
        if self._retry_at is not None and c.monotonic() < self._retry_at:
            self._publish(replace(self.state, retry_in_s=self._retry_at - c.monotonic()))
            return
        plan = c.store.submit(lambda db: record.plan(db, c.paths, facts, config)).result(_STORE_SECONDS)
        waiting = self._obstacle(config, facts, plan)
        if isinstance(waiting, str):
            self._publish(replace(self.state, state="waiting", reason=waiting, teacher=facts.name))
            return
        self._publish(replace(self.state, state="running", reason="", teacher=facts.name, retry_in_s=None))
        self._start(_Run(config, facts, plan), waiting)

    def _obstacle(self, config: Config, facts: TeacherFacts, plan: record.Plan) -> str | float:
        """Why no run starts, in words, or the joules that the run may spend."""
        c = self._c
        if len(plan.samples) < LEAST_SAMPLES:
            return f"{len(plan.samples)} of {LEAST_SAMPLES} samples without a label to start a teacher for"
        if facts.needs_labels and not plan.calibration and not plan.thresholds:
            return "the live model labels nothing before there are labels that it can be measured on"
        if plan.thresholds and all(threshold > 1.0 for threshold in plan.thresholds):
            return (
                "even its surest pixels agree with labels in less than "
                f"{config.labels.teacher_agreement:.0%}; measured again once there are twice as many labels"
            )
        predicted = self._predicted(config, plan)
        share = config.labels.budget_share
        left = share * config.energy.budget_joules_per_day - c.budget.labelling_spent()
        if left < predicted:
            return (
                f"labelling may spend {share:.0%} of the day's joules (labels.budget_share): "
                f"{max(0.0, left):.0f} J are left, {predicted:.0f} J are expected"
            )
        allowance = c.budget.ask(predicted)
        return min(allowance.joules, left) if allowance.allowed else allowance.reason

    def _predicted(self, config: Config, plan: record.Plan) -> float:
        images = len(plan.samples) + len(plan.calibration)
        if plan.joules_per_image is not None:
            return plan.joules_per_image * images
        return full_load_watts(config.energy) * (_START_SECONDS + _IMAGE_SECONDS * images)

    def _start(self, run: _Run, joules: float) -> None:
        c = self._c
        run_id = f"labelling-{c.now():.6f}"
        job_file = self._write_job(run)
        c.store.submit(lambda db: record.open_run(db, run_id, run.facts.name, c.now())).result(_STORE_SECONDS)
        reserved, started = c.reserve(run_id, joules, workload="labelling"), c.monotonic()
        try:
            self._watch(run, job_file, reserved)
        finally:
            bill = reserved.settle()
            row: dict[str, object] = {
                "finished_at": c.now(),
                "outcome": run.outcome,
                "reason": run.reason,
                "looked_at": run.looked_at,
                "labelled": run.labelled,
                "calibrated_on": run.calibrated_on,
                "label_agreement": run.label_agreement,
                "agreement_with_teacher": run.agreement_with_teacher,
                "joules": bill.attributed,
                "gross_joules": bill.gross,
                "method": bill.method,
                "seconds": c.monotonic() - started,
            }
            c.store.submit(lambda db: record.close_run(db, run_id, row)).result(_STORE_SECONDS)
            shutil.rmtree(self._folder / "masks", ignore_errors=True)
            self._conclude(run, row)

    def _conclude(self, run: _Run, row: dict[str, object]) -> None:
        c = self._c
        if run.thresholds:
            record.keep_calibration(
                c.paths,
                run.facts,
                run.config,
                run.thresholds,
                run.plan.labelled,
                frames=run.frames,
                measured=run.plan.measured,
            )
        failures = self.state.failures + 1 if run.outcome == "failed" else 0
        retry = labelling.retry_after(failures).seconds if failures else None
        self._retry_at = None if retry is None else c.monotonic() + retry
        state = {"failed": "failed", "untrusted": "untrusted"}.get(run.outcome, "waiting")
        log.info(
            "teacher finished outcome=%s looked_at=%d labelled=%d joules=%.0f reason=%r",
            run.outcome, run.looked_at, run.labelled, row["gross_joules"], run.reason,
        )  # fmt: skip
        self._publish(
            replace(
                self.state,
                state=state,
                reason=run.reason or "for samples without a label",
                labelled=self.state.labelled + run.labelled,
                failures=failures,
                retry_in_s=retry,
                last=row,
            )
        )

    def _write_job(self, run: _Run) -> Path:
        c, config, facts, plan = self._c, run.config, run.facts, run.plan
        masks = (self._folder / "masks").resolve()
        shutil.rmtree(masks, ignore_errors=True)
        masks.mkdir(parents=True)
        pointer = c.versions.pointer()
        compared = pointer is not None and not facts.needs_labels  # the live model always agrees with itself
        job = TeacherJob(
            teacher=facts.teacher,
            factory=facts.factory,
            classes=config.model.classes,
            out=str(masks),
            samples=plan.samples,
            calibration=plan.calibration,
            thresholds=plan.thresholds,
            default=config.labels.teacher_confidence,
            target=config.labels.teacher_agreement,
            live=str(c.versions.directory(pointer.version).resolve()) if pointer and compared else "",
            threads=usable(config.training.threads),
            device=config.training.device,
        )
        path = self._folder / "job.json"
        write_durably(path, encode_job(job))
        return path

    def _watch(self, run: _Run, job_file: Path, reserved: Reservation) -> None:
        """Follow the process to its end and store its labels; end it at its limits."""
        c = self._c
        log_file = self._folder / "teacher.log"
        log_file.unlink(missing_ok=True)
        error = ""

        def take(event: jobs.Event) -> None:
            nonlocal error
            match event:
                case Calibrated():
                    run.thresholds, run.label_agreement = event.thresholds, event.agreement
                    run.calibrated_on, run.frames = event.samples, event.frames
                case Taught():
                    self._take(event, run)
                case jobs.Failed():
                    error = event.error
                case jobs.OnDevice(reason=reason) if reason:
                    log.warning("teacher on the CPU reason=%s", reason)
                case _:
                    pass

        ended = c.watcher(self._stopping, self._beat).run(
            TrainerProcess(
                job_file,
                log_file,
                program="dance_ondevice.daemon.trainer.teacher_main",
                priority=run.config.training.priority,
            ),
            Limits(
                deadline=c.monotonic() + parse_duration(run.config.training.max_round_duration),
                must_stop=reserved.must_stop,
            ),
            take,
            workload="labelling",
        )
        run.cpu_seconds = ended.exit.cpu_seconds
        run.outcome, run.reason = _verdict(run, ended, error, log_file)

    def _take(self, event: Taught, run: _Run) -> None:
        """Store a label; one that cannot be stored is skipped."""
        c, facts = self._c, run.facts
        run.looked_at += 1
        if event.error:
            unreadable.mark(c.store, [jobs.Unreadable(id=event.id, error=event.error)])
            return
        if event.agreement_with_teacher is not None:
            run.agreements.append((event.accepted, event.agreement_with_teacher))
        if event.mask:
            mask = Path(event.mask)
            try:
                png = stamp(mask.read_bytes(), facts.source)
                c.store.add_label(
                    event.id, png, event.classes, facts.source, confidence=event.confidence
                ).result(_STORE_SECONDS)
                run.labelled += 1
            except (LabelProtected, UnknownSample):
                pass  # it was labelled by somebody else in the meantime, or evicted
            except (StoreError, OSError) as error:
                log.warning("teacher's label not stored id=%s error=%s", event.id, error)
            mask.unlink(missing_ok=True)
        c.store.submit(lambda db: record.mark(db, event.id, facts.name, event.uncertainty))

    def _publish(self, state: TeachingState) -> None:
        if state != self.state:
            self.state = state
            self._on_change()


def _verdict(run: _Run, ended: Ended, error: str, log_file: Path) -> tuple[str, str]:
    status = ended.exit.status
    if ended.limit:
        # A teacher that needs too much memory, or hangs, would do so again: it is retried at growing
        # intervals.
        hopeless = ended.limit == "memory" or (ended.limit == "deadline" and run.looked_at == 0)
        return "failed" if hopeless else "stopped", ended.reason
    if status == 0:
        if run.thresholds and all(threshold > 1.0 for threshold in run.thresholds):
            return "untrusted", (
                "even its surest pixels agree too rarely with labels: it labels nothing until there are "
                "twice as many labels to measure it on"
            )
        return "done", ""
    if error:
        return "failed", error
    if status < 0:
        return "failed", f"the teacher was killed by signal {-status}"
    return "failed", f"the teacher ended with status {status}: {last_error_line(log_file)}"
