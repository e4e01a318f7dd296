"""Probation of a promoted version: its state on disk, the look at it, the rollback where it does not hold.

``models/probation.json`` is written before ``live.json`` names the version: it counts only while both name
the same one, so a crash between the two leaves no probation of a version that never went live.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.counts import block_numbers, paired_counts
from dance_ondevice.daemon.children.process import Exit, TrainerProcess, write_job
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.energy.meters import full_load_watts
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds.context import RoundContext
from dance_ondevice.daemon.rounds.record import SeenSample
from dance_ondevice.daemon.system.state import atomic_write
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.daemon.versions.versions import VersionError
from dance_ondevice.policies.promotion import bootstrap
from dance_ondevice.policies.promotion import probation as policy

log = logging.getLogger(__name__)

#: Seconds of full load that a look may take: interpreter and loading, and each frame through both models.
_START_SECONDS, _FRAME_SECONDS = 20.0, 0.5
#: Between two looks that came to nothing, for want of joules or because they failed, in seconds.
_RETRY_SECONDS = 300.0
_FAILED_LOOKS = 3


@dataclass(frozen=True, kw_only=True)
class ProbationState:
    """A version that has to hold.

    Attributes:
        version: on probation.
        before: that was live before it, and will be again if it does not hold.
        round: that made it.
        since: wall-clock second of its promotion; only samples received later count.
    """

    version: str
    before: str
    round: str
    since: float


class Probation:
    """Used by the rounds thread alone; ``text`` may be read by any."""

    def __init__(
        self,
        context: RoundContext,
        *,
        roll_back: Callable[[ProbationState, str], None],
        beat: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        """``roll_back`` makes the version before live again, for a reason; it may raise ``VersionError``."""
        self._c = context
        self._roll_back = roll_back
        self._beat = beat
        self._stopping = stopping
        self._file = context.paths.models / "probation.json"
        self._not_before = 0.0
        self._failures = 0
        self.text = ""

    def rules(self) -> policy.ProbationRules:
        """What the user asks of a version on probation."""
        promotion = self._c.config.promotion
        return policy.ProbationRules(samples=promotion.probation_samples, max_drop=promotion.probation_drop)

    def begin(self, version: str, before: str, round_id: str) -> None:
        """A version is about to be made live by a round."""
        if self.rules().samples == 0:
            self.end()
            return
        state = ProbationState(version=version, before=before, round=round_id, since=self._c.now())
        atomic_write(self._file, json.dumps(asdict(state)).encode())
        self._not_before, self._failures = 0.0, 0

    def end(self) -> None:
        """No version is on probation any more."""
        self._file.unlink(missing_ok=True)
        self.text = ""

    def state(self) -> ProbationState | None:
        """The live version's probation, None when it is on none."""
        try:
            found = ProbationState(**json.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            log.warning("probation unreadable file=%s error=%s", self._file, error)
            self.end()
            return None
        pointer = self._c.versions.pointer()
        return found if pointer is not None and pointer.version == found.version else None

    def look(self, *, round_ahead: bool = False) -> None:
        """Decide on the live version if enough frames came; cheap when there is nothing to decide."""
        state = self.state()
        if state is None:
            self.text = ""
            return
        rules = self.rules()
        if rules.samples == 0:
            self.end()
            return
        root, condition = self._c.paths.root.resolve(), self._condition(state)
        seen = self._c.store.submit(
            lambda db: round_record.seen_since(db, state.since, rules.samples, root, condition=condition)
        ).result()
        self.text = f"{state.version} is on probation: {len(seen)} of {rules.samples} frames"
        self.text += f" of condition {condition}" if condition else ""
        if (
            not policy.due(rules, len(seen), round_ahead=round_ahead)
            or self._c.monotonic() < self._not_before
        ):
            return
        try:
            self._decide(state, rules, seen)
        except (OSError, RuntimeError, VersionError) as error:
            self._put_off(state, str(error))

    def _condition(self, state: ProbationState) -> str | None:
        """The condition that a version learnt for alone: frames of others look the same in both."""
        try:
            found = self._c.versions.card(state.version).get("training", {}).get("condition")
        except (VersionError, AttributeError):  # no card, or none that can be read: all frames count
            return None
        return found if isinstance(found, str) else None

    def _decide(self, state: ProbationState, rules: policy.ProbationRules, seen: list[SeenSample]) -> None:
        c = self._c
        joules = full_load_watts(c.config.energy) * (_START_SECONDS + _FRAME_SECONDS * len(seen))
        allowance = c.budget.ask(joules)
        if not allowance.allowed:
            self._not_before = c.monotonic() + _RETRY_SECONDS
            self.text += f"; the look at them waits: {allowance.reason}"
            return
        observed = self._observe(state, seen, allowance.joules)
        if observed is None:  # the daemon stops, or joules ran out: the frames are still there later
            self._not_before = c.monotonic() + _RETRY_SECONDS
            return
        decision = policy.decide(rules, self._evidence(state, seen, observed))
        log.info("probation version=%s outcome=%s reason=%s", state.version, decision.state, decision.reason)
        if decision.state == "waiting":
            self._not_before = c.monotonic() + _RETRY_SECONDS
            return
        if decision.state == "rolled_back":
            self._roll_back(state, decision.reason)
        record = {"outcome": decision.state, "reason": decision.reason, "frames": len(seen), "at": c.now()}
        c.versions.annotate(state.version, {"probation": record})
        self.end()

    def _put_off(self, state: ProbationState, error: str) -> None:
        """A look failed: try again later, and at last let the version be."""
        self._failures += 1
        self._not_before = self._c.monotonic() + _RETRY_SECONDS
        log.warning("probation look failed version=%s error=%s", state.version, error)
        self.text += f"; the look at them failed: {error}"
        if self._failures >= _FAILED_LOOKS:
            record = {"outcome": "not decided", "reason": error, "at": self._c.now()}
            self._c.versions.annotate(state.version, {"probation": record})
            self.end()

    def _observe(
        self, state: ProbationState, seen: list[SeenSample], joules: float
    ) -> list[jobs.Observed] | None:
        """Run the look; None when it was cut short.

        Raises:
            RuntimeError: it failed.
        """
        c = self._c
        folder = c.paths.rounds / f".probation-{state.version}"
        shutil.rmtree(folder, ignore_errors=True)
        job_file = write_job(
            folder,
            jobs.ProbationJob(
                before=str(c.versions.directory(state.before).resolve()),
                live=str(c.versions.directory(state.version).resolve()),
                n_classes=len(c.config.model.classes),
                samples=tuple(each.sample for each in seen),
                threads=c.config.training.threads,
                conditions=c.config.conditions.enabled,
            ),
        )
        account = f"probation-{state.version}"
        c.budget.reserve(account, joules)
        before = c.energy.sample()
        process = TrainerProcess(
            job_file,
            folder / "trainer.log",
            program="dance_ondevice.daemon.trainer.probation_main",
            priority=c.config.training.priority,
        )
        found: list[jobs.Observed] = []
        error, status, cut_short = "", Exit(status=-1, cpu_seconds=None), False
        process.start()
        c.energy.cpu.attach_trainer(process.pid)
        try:
            for event in process.events():
                self._beat()
                match event:
                    case jobs.Observed():
                        found.append(event)
                    case jobs.Failed():
                        error = event.error
                    case Exit():
                        status = event
                        break
                    case _:
                        pass
                spent = c.budget.charge(c.energy.used_since(before))
                stopping = self._stopping()
                if stopping or spent >= joules:
                    cut_short = True
                    process.ask_to_leave(daemon_stops=stopping)
        finally:
            process.kill()
            c.energy.cpu.detach_trainer(status.cpu_seconds)
            after = c.energy.sample()
            c.budget.settle(
                account,
                gross=c.budget.charge(after.since(before)),
                attributed=after.workloads.get("training", 0.0) - before.workloads.get("training", 0.0),
                method=c.energy.meter.method,
            )
        if cut_short:
            return None
        if status.status != 0 or len(found) < len(seen):
            raise RuntimeError(error or f"it ended with status {status.status}, see {folder}/trainer.log")
        shutil.rmtree(folder, ignore_errors=True)
        return found

    def _evidence(
        self, state: ProbationState, seen: list[SeenSample], observed: list[jobs.Observed]
    ) -> policy.Evidence:
        promotion, training = self._c.config.promotion, self._c.config.training
        places = {each.sample.id: each.place for each in seen}
        block = parse_duration(training.gate_block)
        pairs = paired_counts(
            [each.before for each in observed if each.before is not None],
            [each.live for each in observed if each.live is not None],
        )
        pairs = {i: pair for i, pair in pairs.items() if any(pair.truth)}
        return policy.Evidence(
            comparison=bootstrap.compare(
                list(pairs.values()),
                block_numbers(list(pairs), places, block),
                confidence=promotion.confidence,
            )
            if pairs
            else None,
            confidence=bootstrap.mean_change(
                [each.confidence_live - each.confidence_before for each in observed],
                block_numbers([each.id for each in observed], places, block),
                confidence=promotion.confidence,
            ),
            agreement=sum(each.agreement for each in observed) / len(observed),
            samples=len(observed),
            untrained_before=first_model.is_untrained(self._c.versions.card(state.before)),
        )


def remove_leftovers(rounds: Path) -> None:
    """Remove the folders of looks that a crash cut short."""
    for folder in rounds.glob(".probation-*"):
        shutil.rmtree(folder, ignore_errors=True)
