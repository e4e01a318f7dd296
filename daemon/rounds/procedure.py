"""One round from its trigger to its outcome: plan, reserve joules, train, judge, promote or reject.

Each step is made durable before the next begins, and a crash can come after any of them. It then leaves the
live model as it was, counts the reserved joules as spent, and leaves a record that ``recover`` completes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.curation import round_folders as folders
from dance_ondevice.daemon.curation import unreadable
from dance_ondevice.daemon.energy import ledger
from dance_ondevice.daemon.planning import fit as round_plan
from dance_ondevice.daemon.planning import pace as round_pace
from dance_ondevice.daemon.rounds import closing as round_close
from dance_ondevice.daemon.rounds import importing, teaching_record
from dance_ondevice.daemon.rounds import prepare as round_prepare
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds import verdict as round_verdict
from dance_ondevice.daemon.rounds.context import Outcome, RoundContext, outcome_of
from dance_ondevice.daemon.rounds.prepare import RoundPart
from dance_ondevice.daemon.rounds.probation import Probation, ProbationState, remove_leftovers
from dance_ondevice.daemon.rounds.training import RoundClock, RoundTraining
from dance_ondevice.daemon.rounds.watch import EarlyEnd, Progress, ProgressNotes, RunResult
from dance_ondevice.daemon.store.labelled import labelled_samples, save_splits
from dance_ondevice.daemon.versions import base, tryout
from dance_ondevice.daemon.versions.versions import Pointer, VersionError, check_intact
from dance_ondevice.policies.promotion import promotion
from dance_ondevice.policies.rounds import shrinking
from dance_ondevice.policies.rounds.rehearsal import is_anchor
from dance_ondevice.policies.samples.splits import SampleInfo, assign_splits

log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: The most times that an interrupted round is resumed: one that ends the daemon each time must not go on
#: forever.
MOST_RESUMES = 3


class RoundProcedure:
    """Runs rounds one after another on the rounds thread."""

    def __init__(
        self,
        context: RoundContext,
        *,
        on_progress: Callable[[Progress | None], None],
        stopping: threading.Event,
        beat: Callable[[], None],
    ) -> None:
        self._c = context
        self._on_progress = on_progress
        #: Why anchors were left out of the latest round.
        self.anchors_unreadable: tuple[str, ...] = ()
        #: What ``rounds/`` takes on the disk.
        self.folder_bytes = 0
        self._beat = beat
        self._watcher = partial(context.watcher, stopping, beat)
        self._close = partial(round_close.close, context)
        self.probation = Probation(context, roll_back=self._roll_back, watcher=self._watcher)

    def balance(self) -> float:
        """Joules that training may spend now."""
        return self._c.budget.balance()

    def samples(self) -> list[SampleInfo]:
        """Every labelled sample, oldest first."""
        return self._c.store.submit(labelled_samples).result()

    def teacher_judges(self) -> bool:
        """Whether a teacher's labels judge where no held-out sample has another label."""
        return teaching_record.may_judge(self._c.paths, self._c.config, self._c.versions).may_judge

    def assign_splits(self, config: Config) -> list[SampleInfo]:
        """Assign a lasting split (train, gate or guard) to each new labelled sample; returns all labelled."""
        training = config.training
        splits = assign_splits(
            self.samples(),
            share=training.gate_share,
            block_seconds=parse_duration(training.gate_block),
        )
        self._c.store.submit(lambda db: save_splits(db, splits)).result()
        return self.samples()

    def run(
        self, samples: Sequence[SampleInfo], *, config: Config, trigger: str, reason: str
    ) -> Outcome | str:
        """Run one round; returns its outcome, or a text that says why none could start.

        Args:
            samples: All labelled samples, with their splits.
            config: The whole configuration; the round keeps to it when the daemon reloads another one.
            trigger: What asked for the round.
            reason: Why it may start, in words.
        """
        try:
            part = round_prepare.prepare(self._c, samples, config=config, trigger=trigger, reason=reason)
        except VersionError as error:
            # The live version's files were damaged since the start: another takes over as it would there.
            found = self._fall_back()
            if found is None:
                raise
            return f"{error}; {found}"
        if isinstance(part, str):
            return part
        return self.run_part(part)

    def run_part(self, part: RoundPart) -> Outcome:
        """Run a round, or a part of one, that was prepared."""
        return self._closing(part.job.round, lambda: self._train_and_judge(part))

    def tidy(self) -> None:
        """Remove the folders of old rounds, and measure the size of the others."""
        folders.tidy(self._c.paths, self._c.store)
        self.folder_bytes = folders.size(self._c.paths.rounds)

    def past_rounds(self, limit: int) -> list[dict[str, Any]]:
        """Rows of the latest finished rounds, oldest first."""
        return self._c.store.submit(lambda db: round_record.finished_rounds(db, limit)).result()

    def spent_joules(self) -> float:
        """Gross joules that learning has cost, as far back as the records go."""
        return self._c.store.submit(round_record.spent_joules).result()

    def switch(
        self, version: str, *, reason: str, away_from: str | None = None, tried: bool = False
    ) -> Pointer:
        """Make a version live: load and warm it up, write the pointer, then install it for inference.

        Args:
            version: The version's name.
            reason: Why it goes live, for the log.
            away_from: See ``Versions.make_live``.
            tried: Whether it has run already, in a round or as the live model; other versions are first run,
                in a separate process where inference is off.

        Raises:
            VersionError: There is no such version, it is for other classes, or it does not load.
        """
        c = self._c
        base.check_classes(c.versions.card(version), c.config.model.classes, f"version {version}")
        install = None
        try:
            if c.live_model is None and not tried:
                tryout.check(c.versions.directory(version), procfs=c.procfs)
            elif c.live_model is not None:
                install = c.live_model.prepare(c.versions.directory(version))
        except Exception as error:  # the model may be the user's own: loading it may raise anything
            raise VersionError(f"version {version} does not load: {error}") from error
        pointer = c.versions.make_live(version, reason=reason, away_from=away_from)
        if install is not None:
            install()
        return pointer

    def bring_in(self, source: Path) -> dict[str, Any]:
        """Bring in a model from outside; see ``importing.bring_in``."""
        act = importing.Import(
            context=self._c,
            watcher=self._watcher,
            samples=self.assign_splits,
            switch=lambda version, reason: self.switch(version, reason=reason, tried=True),
            begin_probation=self.probation.begin,
            beat=self._beat,
        )
        return importing.bring_in(act, source)

    def rollback(self, to: str | None) -> Pointer:
        """Make the previous live version (or a named one) live again.

        Raises:
            VersionError: There is no previous version, or it does not load.
        """
        pointer = self._c.versions.pointer()
        target = to or (pointer.previous if pointer else None)
        if target is None:
            raise VersionError("there is no earlier version to roll back to")
        found = self.switch(target, reason="rolled back by hand")
        if pointer is None or found.version != pointer.version:
            self._c.instruments.rolled_back("hand")
        return found

    def _fall_back(self) -> str | None:
        """Put the next best version in the place of a live one that does not load; says what was done.

        Raises:
            VersionError: none loads.
        """
        model, installs = self._c.live_model, []

        def loads(directory: Path) -> None:
            check_intact(directory)
            if model is not None:
                installs.append(model.prepare(directory))

        found = self._c.versions.fall_back(loads)
        if found is not None and installs:
            installs[-1]()
        return found

    def _roll_back(self, state: ProbationState, reason: str) -> None:
        """Go back to the earlier version after the new one failed its probation."""
        why = f"{state.version} did not hold: {reason}"
        self.switch(state.before, reason=why, away_from="rolled_back", tried=True)
        self._c.store.submit(lambda db: round_record.mark_rolled_back(db, state.round, reason)).result()
        self._c.instruments.rolled_back("probation")
        log.warning("rolled back version=%s to=%s reason=%s", state.version, state.before, reason)

    def recover(self) -> None:
        """At start-up: charge crashed reservations in full, and fail rounds that cannot be resumed."""
        c = self._c
        remove_leftovers(c.paths.rounds)
        for entry in c.store.submit(lambda db: ledger.settle_crashed(db, c.now())).result():
            log.warning(
                "reservation settled in full after a crash round=%s joules=%.0f",
                entry.round_id, entry.joules,
            )  # fmt: skip
        c.store.submit(round_record.mark_missed_rollbacks).result()
        for row in self.interrupted():
            self._closing(row["id"], partial(self._fail_if_not_resumable, row))

    def interrupted(self) -> list[dict[str, Any]]:
        """Rows of the rounds that a stop or a crash left open, oldest first."""
        return self._c.store.submit(round_record.unfinished_rounds).result()

    def is_judged(self, row: Mapping[str, Any]) -> bool:
        """Whether an interrupted round already has its verdict, so that nothing is left to train."""
        return self._c.versions.of_round(row["id"]) is not None

    def resume(self, row: Mapping[str, Any]) -> Outcome:
        """Resume an interrupted round, or carry out the verdict it already has; else close it."""
        return self._closing(row["id"], lambda: self._resume(row))

    def _resume(self, row: Mapping[str, Any]) -> Outcome:
        c, config = self._c, self._c.config
        version = c.versions.of_round(row["id"])
        if version is not None:
            return self._conclude_again(row, version)
        if not self._can_resume(row):
            reason = f"interrupted, and {row['parent']}, which it began from, is not live any more"
            return self._close(row["id"], "failed", (reason,), {})
        if row["resumes"] >= MOST_RESUMES:
            reason = f"interrupted {row['resumes'] + 1} times: it does not go on again"
            return self._close(row["id"], "failed", (reason,), {})
        most = row["max_seconds"] or parse_duration(config.training.max_round_duration)
        before = row["seconds"] or 0.0
        if before >= most:
            reason = "interrupted, and it took longer than training.max_round_duration"
            return self._close(row["id"], "stopped", (reason,), {"seconds": before})
        job_file = c.paths.rounds / row["id"] / "job.json"
        job = jobs.read_job(job_file)
        forecast = round_plan.resumed(row, job.steps)
        # How much work is left is not known; what was spent before came out of another reservation.
        allowance = c.budget.ask(forecast.joules)
        if not allowance.allowed:
            return self._close(row["id"], "stopped", (f"interrupted, then {allowance.reason}",), {})
        c.store.submit(lambda db: round_record.count_resume(db, row["id"])).result()
        log.info("round resumed round=%s resumes=%d seconds=%.0f", job.round, row["resumes"] + 1, before)
        return self._train_and_judge(
            RoundPart(
                config=config,
                job=job,
                job_file=job_file,
                joules=allowance.joules,
                forecast=forecast,
                size=shrinking.RoundSize(job.batch_size, row.get("image_scale") or 1.0),
                clock=RoundClock(c.store, c.monotonic, job.round, most=most, before=before),
            )
        )

    def _fail_if_not_resumable(self, row: Mapping[str, Any]) -> Outcome | None:
        if self._can_resume(row):
            return None
        return self._close(row["id"], "failed", ("the daemon ended while the round ran",), {})

    def _closing(self, round_id: str, act: Callable[[], _T]) -> _T | Outcome:
        """Do something with an open round; if it raises, the round's record is closed as failed.

        An open record protects its samples from eviction, and would meet the same error at the next start.
        """
        try:
            return act()
        except Exception as error:  # any error: it goes on record, and the daemon goes on
            log.exception("round failed round=%s", round_id)
            version, pointer = self._c.versions.of_round(round_id), self._c.versions.pointer()
            if version is not None and pointer is not None and pointer.version == version:
                raise  # its version is live: the next start completes the record from the verdict in the card
            reason = f"{type(error).__name__}: {error}"
            return self._close(round_id, "failed", (reason,), {}, version)

    def _can_resume(self, row: Mapping[str, Any]) -> bool:
        folder = self._c.paths.rounds / row["id"]
        pointer = self._c.versions.pointer()
        return self._c.versions.of_round(row["id"]) is not None or (
            (folder / "checkpoint" / "complete").exists()
            and pointer is not None
            and pointer.version == row["parent"]
            and jobs.lies_where_it_was_written(folder)
        )

    def _train_and_judge(self, part: RoundPart) -> Outcome:
        c, job, forecast = self._c, part.job, part.forecast
        reserved = c.reserve(job.round, part.joules)
        notes = ProgressNotes(self._on_progress, lambda: reserved.spent, c.monotonic)
        step_and_judging = forecast.step_joules + round_plan.judging_joules(forecast, job)

        def must_stop() -> str | None:
            part.clock.keep_now_and_then()
            return reserved.must_stop()

        def nearly_spent() -> str | None:
            return reserved.must_stop(step_and_judging)

        try:
            result, size, job = RoundTraining(
                self._watcher(),
                priority=part.config.training.priority,
                on_progress=notes.report,
            ).run(
                job,
                part.job_file,
                part.size,
                deadline=part.clock.deadline,
                must_stop=must_stop,
                early=EarlyEnd(nearly_spent=nearly_spent, min_gain=part.config.promotion.min_gain),
            )
        finally:
            bill = reserved.settle()
            self._on_progress(None)
        unreadable.mark(c.store, result.unreadable)
        self.anchors_unreadable = tuple(
            each.error for each in result.unreadable if is_anchor(each.id) is not None
        )
        facts = {
            **round_close.paid(c.store, job.round),
            "expected_gain": forecast.gain,
            "expected_joules": forecast.joules,
            "method": bill.method,
            "meter": bill.meter,
            "steps": result.steps,
            "seconds": part.clock.seconds,
            "cpu_seconds": result.cpu_seconds,
            "peak_bytes": result.peak_bytes or None,
            "batch_size": size.batch_size,
            "image_scale": size.scale,
            "curve": round_pace.encode(result.curve),
        }
        return self._conclude(part, job, result, facts)

    def _conclude(self, part: RoundPart, job: jobs.Job, result: RunResult, facts: dict[str, Any]) -> Outcome:
        scores = result.scores
        facts |= {
            "miou_before": scores["live"].miou if "live" in scores else None,
            "miou_frozen": scores["frozen"].miou if "frozen" in scores else None,
            "miou_after": scores["candidate"].miou if "candidate" in scores else None,
        }
        if job.by_teacher:
            # Agreement with a teacher: it stands in the candidate's card, and nowhere as mIoU.
            facts |= dict.fromkeys(("miou_before", "miou_frozen", "miou_after"))
        if result.state == "interrupted":
            # The record stays open: the next start resumes the round.
            part.clock.keep().result()
            log.info("round interrupted round=%s step=%d", job.round, result.steps)
            return outcome_of(job.round, "stopped", (result.reason,), facts, None)
        # Also where no candidate was made: the same slimming step is not tried again.
        facts["macs_after"] = result.slimmed.macs_after if result.slimmed else None
        where = (result.device_note,) if result.device_note else ()
        if result.state == "hopeless":
            # Rejected without a candidate: the same samples would end the same way.
            saved = part.forecast.step_joules * (job.steps - result.steps)
            saved_note = (f"about {saved:.0f} J saved",) if saved > 0 else ()
            reasons = (result.reason, *saved_note, *where, *promotion.steadier(len(job.gate)))
            return self._close(job.round, "rejected", reasons, facts, served=True)
        if result.state != "done" or result.done is None:
            return self._close(job.round, result.state, (result.reason, *where), facts)
        facts["macs_after"] = result.done.macs
        live_card = self._c.versions.card(Path(job.live).name)
        judgement = round_verdict.judge(
            part.config,
            self._c.store,
            job,
            result,
            facts,
            live_card=live_card,
            untrained_live=base.is_untrained(live_card),
        )
        promoted = judgement.outcome == "promoted"
        version = self._c.versions.adopt(
            Path(job.out),
            status="candidate" if promoted else "rejected",
            round_id=job.round,
            changes=judgement.certificate,
        )
        return self._enact(job.round, judgement, version, facts)

    def _conclude_again(self, row: Mapping[str, Any], version: str) -> Outcome:
        """Finish a round that a crash interrupted after its verdict, which is in the candidate's card."""
        pointer = self._c.versions.pointer()
        card = self._c.versions.card(version)
        judgement, facts = round_verdict.recorded(card)
        facts |= round_close.paid(self._c.store, row["id"])
        if judgement.outcome == "promoted" and (
            pointer is None or pointer.version not in (row["parent"], version)
        ):
            reason = f"the daemon ended before {version} went live, and {row['parent']} is not live any more"
            return self._close(row["id"], "failed", (reason,), facts, version)
        log.info("round judged before the crash round=%s outcome=%s", row["id"], judgement.outcome)
        return self._enact(row["id"], judgement, version, facts)

    def _enact(
        self, round_id: str, judgement: round_verdict.Judgement, version: str, facts: Mapping[str, Any]
    ) -> Outcome:
        """Carry out the verdict on a version, as far as that is not done yet."""
        before = self._c.versions.pointer()
        if judgement.outcome == "promoted" and (before is None or before.version != version):
            try:
                if before is not None:
                    self.probation.begin(version, before.version, round_id)
                self.switch(version, reason=f"promoted by round {round_id}", tried=True)
            except VersionError as error:
                return self._close(round_id, "failed", (str(error),), facts, version)
        outcome = self._close(round_id, judgement.outcome, judgement.reasons, facts, version, served=True)
        self._c.versions.prune()
        return outcome
