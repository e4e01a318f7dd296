"""One round from its reason to its outcome: plan, reserve joules, train, judge, promote or keep as rejected.

Every step that changes the world is durable before the next begins, and each can be the last: a crash at any
point leaves the live model as it was, the reserved joules spent, and a record that ``recover`` completes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.counts import block_numbers
from dance_ondevice.daemon.children.process import write_job
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.energy import ledger
from dance_ondevice.daemon.planning import fit as round_plan
from dance_ondevice.daemon.planning import job as round_job
from dance_ondevice.daemon.planning import pace as round_pace
from dance_ondevice.daemon.planning import scope as round_condition
from dance_ondevice.daemon.rounds import closing as round_close
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds import verdict as round_verdict
from dance_ondevice.daemon.rounds.context import Outcome, RoundContext, outcome_of
from dance_ondevice.daemon.rounds.probation import Probation, ProbationState, remove_leftovers
from dance_ondevice.daemon.rounds.training import RoundTraining, memory_limit
from dance_ondevice.daemon.rounds.watch import Progress, RunResult
from dance_ondevice.daemon.store.labelled import labelled_samples, save_splits
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.daemon.versions.versions import Pointer, VersionError
from dance_ondevice.policies.rounds import pace, shrinking
from dance_ondevice.policies.samples.splits import SampleInfo, assign_splits

log = logging.getLogger(__name__)


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
        self._stopping = stopping
        self._beat = beat
        self._close = partial(round_close.close, context)
        self._training = RoundTraining(context, on_progress=on_progress, stopping=stopping)
        self.probation = Probation(context, roll_back=self._roll_back, beat=beat, stopping=stopping.is_set)

    def balance(self) -> float:
        """Joules that training may spend now."""
        return self._c.budget.balance()

    def samples(self) -> list[SampleInfo]:
        """Every labelled sample, oldest first."""
        return self._c.store.submit(labelled_samples).result()

    def assign_splits(self) -> list[SampleInfo]:
        """Give every new labelled sample its place (train, gate or guard) for good; returns all labelled."""
        training = self._c.config.training
        splits = assign_splits(
            self.samples(),
            share=training.gate_share,
            block_seconds=parse_duration(training.gate_block),
        )
        self._c.store.submit(lambda db: save_splits(db, splits)).result()
        return self.samples()

    def run(self, samples: Sequence[SampleInfo], *, trigger: str, reason: str) -> Outcome | str:
        """Run one round; returns its outcome, or in words why none could start."""
        c = self._c
        training = c.config.training
        seed = training.seed + c.store.submit(lambda db: db["rounds"].count).result()
        share = c.store.submit(lambda db: round_plan.rehearsal_share(db, training.rehearsal_share)).result()

        def ensured() -> Pointer:
            return first_model.ensure(c.config, c.config_file, c.paths, c.versions)

        planned = round_condition.plan(
            c.config,
            samples,
            lambda: c.versions.directory(ensured().version),
            rehearsal_share=share,
            seed=seed,
        )
        if isinstance(planned, str):
            return planned
        plan, condition, pointer = planned.samples, planned.condition, ensured()
        card = c.versions.card(pointer.version)
        past = c.store.submit(round_record.finished_rounds).result()
        alike = round_condition.comparable(past, condition)
        fitted = round_plan.fit(
            c.config,
            c.budget,
            plan,
            known=c.store.submit(lambda db: round_plan.stored(db, plan)).result(),
            macs=card.get("macs") or 0,
            past=alike,
            forced=trigger == "requested",
            # Anchors are of the base domain: a condition's own round has no use for them.
            rehearsal_share=share if condition is None else 0.0,
        )
        if isinstance(fitted, str):
            return fitted

        speed = round_pace.next_pace(alike)
        steps = max(min(round_job.MIN_STEPS, fitted.steps), int(fitted.steps * speed.steps))
        round_id = round_job.new_id(c.paths, c.now())
        folder = c.paths.rounds / round_id
        size = round_pace.first_size(training.batch_size, past, memory_limit(c.procfs))
        row = {
            "id": round_id,
            "started_at": c.now(),
            "trigger": trigger,
            "reason": "; ".join(filter(None, (reason, planned.reason, fitted.reason, speed.reason))),
            "parent": pointer.version,
            "condition": condition,
            "seed": seed,
            "macs_before": card.get("macs"),
            "pace": round_pace.encode(speed),
            "batch_size": size.batch_size,
            "image_scale": size.scale,
            **fitted.expectations,
        }
        # From here on no eviction takes its samples: what is looked up below is what the trainer will find.
        c.store.submit(lambda db: round_record.open_round(db, row, fitted.plan)).result()
        try:
            job = round_job.build(
                c.config,
                folder,
                live=c.versions.directory(pointer.version),
                frozen=c.versions.directory(pointer.frozen),
                samples=lambda ids: c.store.submit(
                    lambda db: round_record.job_samples(db, ids, c.paths.root.resolve())
                ).result(),
                plan=fitted.plan,
                steps=steps,
                learning_rate=training.learning_rate * speed.rate,
                scales=fitted.scales,
                target_macs=round_job.slim_target(c.config, card, past),
                seed=seed,
                condition=condition,
            )
            job = round_pace.resized(self._with_blocks(job), size)
            job_file = write_job(folder, job)
        except Exception as error:  # whatever it was: the record must not stay open, the caller tells of it
            self._close(round_id, "failed", (f"not prepared: {error}",), {})
            raise
        log.info(
            "round started round=%s for=%s reason=%s new=%d rehearsal=%d gate=%d steps=%d joules=%.0f",
            round_id, condition or "all", reason,
            len(job.train), len(job.rehearsal), len(job.gate), job.steps, fitted.allowance,
        )  # fmt: skip
        return self._train_and_judge(job, job_file, fitted.allowance, fitted.forecast, size)

    def past_rounds(self, limit: int) -> list[dict[str, Any]]:
        """Rows of the latest finished rounds, oldest first."""
        return self._c.store.submit(lambda db: round_record.finished_rounds(db, limit)).result()

    def spent_joules(self) -> float:
        """Gross joules that learning has cost, as far as the records go."""
        return self._c.store.submit(round_record.spent_joules).result()

    def _with_blocks(self, job: jobs.Job) -> jobs.Job:
        """Tell the trainer which held-out samples belong together in time."""
        ids = [s.id for s in job.gate]
        origins = self._c.store.submit(lambda db: round_record.origins(db, ids)).result()
        places = {i: origin.place for i, origin in origins.items()}
        block = parse_duration(self._c.config.training.gate_block)
        return msgspec.structs.replace(job, gate_blocks=block_numbers(ids, places, block))

    def switch(self, version: str, *, reason: str, away_from: str | None = None) -> Pointer:
        """Make a version live: loaded and warmed up first, then the pointer, then the serving slot.

        Args:
            version: which.
            reason: for the log.
            away_from: see ``Versions.make_live``.

        Raises:
            VersionError: there is no such version, or it does not load.
        """
        c = self._c
        c.versions.card(version)
        install = None
        if c.live_model is not None:
            try:
                install = c.live_model.prepare(c.versions.directory(version))
            except ValueError as error:
                raise VersionError(f"version {version} does not load: {error}") from error
        pointer = c.versions.make_live(version, reason=reason, away_from=away_from)
        if install is not None:
            install()
        return pointer

    def rollback(self, to: str | None) -> Pointer:
        """Make the previous live version (or a named one) live again.

        Raises:
            VersionError: there is no previous version, or it does not load.
        """
        pointer = self._c.versions.pointer()
        target = to or (pointer.previous if pointer else None)
        if target is None:
            raise VersionError("there is no earlier version to roll back to")
        found = self.switch(target, reason="rolled back by hand")
        if pointer is None or found.version != pointer.version:
            self._c.instruments.rolled_back("hand")
        return found

    def _roll_back(self, state: ProbationState, reason: str) -> None:
        """A version did not hold on probation."""
        self.switch(state.before, reason=f"{state.version} did not hold: {reason}", away_from="rolled_back")
        self._c.store.submit(lambda db: round_record.mark_rolled_back(db, state.round, reason)).result()
        self._c.instruments.rolled_back("probation")
        log.warning("rolled back version=%s to=%s reason=%s", state.version, state.before, reason)

    def recover(self) -> None:
        """At start-up: settle crashed reservations at what was reserved, fail rounds that cannot go on."""
        c = self._c
        remove_leftovers(c.paths.rounds)
        for entry in c.store.submit(lambda db: ledger.settle_crashed(db, c.now())).result():
            log.warning(
                "reservation settled in full after a crash round=%s joules=%.0f",
                entry.round_id, entry.joules,
            )  # fmt: skip
        c.store.submit(round_record.mark_missed_rollbacks).result()
        for row in c.store.submit(round_record.unfinished_rounds).result():
            if not self._can_resume(row):
                self._close(row["id"], "failed", ("the daemon ended while the round ran",), {})

    def resume_interrupted(self) -> Iterator[Outcome]:
        """Go on with rounds that a stop interrupted, or a crash between their verdict and its effect."""
        for row in self._c.store.submit(round_record.unfinished_rounds).result():
            version = self._c.versions.of_round(row["id"])
            if version is not None:
                yield self._conclude_again(row, version)
                continue
            job_file = self._c.paths.rounds / row["id"] / "job.json"
            job = jobs.read_job(job_file)
            forecast = round_plan.resumed(row, job.steps)
            # What is left to do is not known; what was spent came out of another reservation.
            allowance = self._c.budget.ask(forecast.joules)
            if not allowance.allowed:
                self._close(row["id"], "stopped", (f"interrupted, then {allowance.reason}",), {})
                continue
            log.info("round resumed round=%s", job.round)
            size = shrinking.RoundSize(job.batch_size, row.get("image_scale") or 1.0)
            yield self._train_and_judge(job, job_file, allowance.joules, forecast, size)

    def _can_resume(self, row: Mapping[str, Any]) -> bool:
        folder = self._c.paths.rounds / row["id"]
        pointer = self._c.versions.pointer()
        return self._c.versions.of_round(row["id"]) is not None or (
            (folder / "checkpoint" / "complete").exists()
            and pointer is not None
            and pointer.version == row["parent"]
        )

    def _train_and_judge(
        self,
        job: jobs.Job,
        job_file: Path,
        joules: float,
        forecast: round_plan.Forecast,
        size: shrinking.RoundSize,
    ) -> Outcome:
        c = self._c
        c.budget.reserve(job.round, joules)
        before = c.energy.sample()
        started = c.monotonic()

        aside = pace.evaluation_joules(forecast.step_joules, gate=len(job.gate), batch_size=job.batch_size)

        def must_stop() -> str | None:
            return c.budget.must_stop(spent=c.budget.charge(c.energy.used_since(before)), allowance=joules)

        def nearly_spent() -> str | None:
            spent = c.budget.charge(c.energy.used_since(before))
            return c.budget.must_stop(spent=spent, allowance=joules, step_joules=forecast.step_joules + aside)

        try:
            result, size, job = self._training.run(job, job_file, size, must_stop, nearly_spent)
        finally:
            # Whatever happened, what was used is paid for; a failure between here and there is settled
            # at the reserved amount by the next start.
            after = c.energy.sample()
            used = after.since(before)
            attributed = after.workloads.get("training", 0.0) - before.workloads.get("training", 0.0)
            c.budget.settle(
                job.round,
                gross=c.budget.charge(used),
                attributed=attributed,
                method=c.energy.meter.method,
            )
            self._on_progress(None)
        facts = {
            **round_close.paid(c.store, job.round),
            "expected_gain": forecast.gain,
            "expected_joules": forecast.joules,
            "method": c.energy.meter.method,
            "steps": result.steps,
            "seconds": c.monotonic() - started,
            "cpu_seconds": result.cpu_seconds,
            "peak_bytes": result.peak_bytes or None,
            "batch_size": size.batch_size,
            "image_scale": size.scale,
            "curve": round_pace.encode(result.curve),
        }
        return self._conclude(job, result, facts, forecast)

    def _conclude(
        self, job: jobs.Job, result: RunResult, facts: dict[str, Any], forecast: round_plan.Forecast
    ) -> Outcome:
        scores = result.scores
        facts |= {
            "miou_before": scores["live"].miou if "live" in scores else None,
            "miou_frozen": scores["frozen"].miou if "frozen" in scores else None,
            "miou_after": scores["candidate"].miou if "candidate" in scores else None,
        }
        if result.state == "interrupted":
            # Stays open: the next start goes on with it.
            log.info("round interrupted round=%s step=%d", job.round, result.steps)
            return outcome_of(job.round, "stopped", (result.reason,), facts, None)
        # Also of a candidate that never came to be: the same slimming step is not to be taken again.
        facts["macs_after"] = result.slimmed.macs_after if result.slimmed else None
        if result.state == "hopeless":
            # Judged, without a candidate: the same samples would end the same.
            saved = forecast.step_joules * (job.steps - result.steps)
            reasons = (result.reason, f"about {saved:.0f} J saved") if saved > 0 else (result.reason,)
            return self._close(job.round, "rejected", reasons, facts, served=True)
        if result.state != "done" or result.done is None:
            return self._close(job.round, result.state, (result.reason,), facts)
        facts["macs_after"] = result.done.macs
        judgement = round_verdict.judge(self._c.config, self._c.store, job, result, facts)
        promoted = judgement.outcome == "promoted"
        version = self._c.versions.adopt(
            Path(job.out),
            status="candidate" if promoted else "rejected",
            round_id=job.round,
            changes=judgement.certificate,
        )
        return self._enact(job.round, judgement, version, facts)

    def _conclude_again(self, row: Mapping[str, Any], version: str) -> Outcome:
        """A crash came after the verdict, which stands in the candidate's card, and before all was done."""
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
        """Do what the verdict on a version says, as far as that is still to do."""
        before = self._c.versions.pointer()
        if judgement.outcome == "promoted" and (before is None or before.version != version):
            try:
                if before is not None:
                    self.probation.begin(version, before.version, round_id)
                self.switch(version, reason=f"promoted by round {round_id}")
            except VersionError as error:
                return self._close(round_id, "failed", (str(error),), facts, version)
        outcome = self._close(round_id, judgement.outcome, judgement.reasons, facts, version, served=True)
        self._c.versions.prune()
        return outcome
