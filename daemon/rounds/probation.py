"""Probation of a promoted version: its state on disk, its evaluation, and the rollback if it fails.

``models/probation.json`` is written before ``live.json`` names the version. It counts only while both name
the same version, so a crash between the two writes leaves no probation of a version that never went live.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.counts import block_numbers, paired_counts
from dance_ondevice.daemon.children.process import TrainerProcess, write_job
from dance_ondevice.daemon.children.watcher import ChildWatcher, Limits
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.curation import unreadable
from dance_ondevice.daemon.energy.meters import full_load_watts
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds.context import RoundContext
from dance_ondevice.daemon.rounds.record import SeenSample
from dance_ondevice.daemon.system.cores import usable
from dance_ondevice.daemon.versions import base
from dance_ondevice.daemon.versions.versions import VersionError
from dance_ondevice.documents import decode
from dance_ondevice.files import read_regular, write_durably
from dance_ondevice.policies.promotion import bootstrap
from dance_ondevice.policies.promotion import probation as policy

log = logging.getLogger(__name__)

#: Seconds of full load that an evaluation may take: the start, and each frame through both models.
_START_SECONDS, _FRAME_SECONDS = 20.0, 0.5
#: Seconds between two evaluations that gave no result, because joules were short or the evaluation failed.
_RETRY_SECONDS = 300.0
_MOST_FAILURES = 3


@dataclass(frozen=True, kw_only=True)
class ProbationState:
    """The version on probation and where its probation began.

    Attributes:
        version: The version on probation.
        before: The version that was live before it, and becomes live again if this one fails.
        round: The round that made the version.
        since: Wall-clock second of its promotion, for the record.
        after: Row number of the newest sample at its promotion; only samples stored later count. None in a
            file of an earlier build: then samples received after ``since`` count.
    """

    version: str
    before: str
    round: str
    since: float
    after: int | None = None


class Probation:
    """Evaluates the version on probation on the rounds thread; any thread may read ``text``."""

    def __init__(
        self,
        context: RoundContext,
        *,
        roll_back: Callable[[ProbationState, str], None],
        watcher: Callable[[], ChildWatcher],
    ) -> None:
        """``roll_back`` makes the version before live again, for a reason; it may raise ``VersionError``."""
        self._c = context
        self._roll_back = roll_back
        self._watcher = watcher
        self._file = context.paths.models / "probation.json"
        self._not_before = 0.0
        self._failures = 0
        self.text = ""

    @staticmethod
    def rules(config: Config) -> policy.ProbationRules:
        """The user's rules for a version on probation."""
        promotion = config.promotion
        return policy.ProbationRules(samples=promotion.probation_samples, max_drop=promotion.probation_drop)

    def begin(self, version: str, before: str, round_id: str) -> None:
        """Put a version on probation; called just before the round makes it live."""
        if self.rules(self._c.config).samples == 0:
            self.end()
            return
        newest = self._c.store.submit(round_record.newest_sample).result()
        state = ProbationState(
            version=version, before=before, round=round_id, since=self._c.now(), after=newest
        )
        self._write(state)
        self._not_before, self._failures = 0.0, 0

    def end(self) -> None:
        """End the probation of whatever version is on it."""
        self._file.unlink(missing_ok=True)
        self.text = ""

    @property
    def pending(self) -> bool:
        """Whether a version is on probation, evaluated or not."""
        return self.state() is not None

    def state(self) -> ProbationState | None:
        """The probation of the live version; None when it is not on probation."""
        try:
            found = decode(read_regular(self._file), ProbationState)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            log.warning("probation unreadable file=%s error=%s", self._file, error)
            self.end()
            return None
        pointer = self._c.versions.pointer()
        return found if pointer is not None and pointer.version == found.version else None

    def evaluate(self, *, round_ahead: bool = False) -> None:
        """Evaluate the live version once enough frames came; cheap when there is nothing to decide."""
        state = self.state()
        if state is None:
            self.text = ""
            return
        config = self._c.config
        rules = self.rules(config)
        if rules.samples == 0:
            self.end()
            return
        state = self._still_there(state)
        root, condition = self._c.paths.root.resolve(), self._condition(state)
        seen = self._c.store.submit(
            lambda db: round_record.seen_since(
                db, state.after, state.since, rules.samples, root, condition=condition
            )
        ).result()
        self.text = f"{state.version} is on probation: {len(seen)} of {rules.samples} new samples"
        self.text += f" of condition {condition}" if condition else ""
        if (
            not policy.due(rules, len(seen), round_ahead=round_ahead)
            or self._c.monotonic() < self._not_before
        ):
            return
        try:
            self._decide(config, state, seen)
        except Exception as error:  # any error: it is retried later, and after some failures given up
            self._put_off(state, error)

    def _write(self, state: ProbationState) -> None:
        write_durably(self._file, json.dumps(asdict(state)).encode())

    def _still_there(self, state: ProbationState) -> ProbationState:
        """The same state, corrected after the index was rebuilt: its numbers of arrival begin again."""
        newest = self._c.store.submit(round_record.newest_sample).result()
        if state.after is None or newest >= state.after:
            return state
        state = replace(state, after=newest)
        self._write(state)
        return state

    def _condition(self, state: ProbationState) -> str | None:
        """The one condition that the version was trained for; other frames are the same in both."""
        try:
            found = self._c.versions.card(state.version).get("training", {}).get("condition")
        except (VersionError, AttributeError):  # the card is missing or unreadable: all frames count
            return None
        return found if isinstance(found, str) else None

    def _decide(self, config: Config, state: ProbationState, seen: list[SeenSample]) -> None:
        c, rules = self._c, self.rules(config)
        allowance = c.budget.ask(comparison_joules(config, len(seen)))
        if not allowance.allowed:
            self._not_before = c.monotonic() + _RETRY_SECONDS
            self.text += f"; their evaluation waits: {allowance.reason}"
            return
        observed = self._observe(config, state, seen, allowance.joules)
        if observed is None:  # the daemon stops, or joules ran out: the same frames can be evaluated later
            self._not_before = c.monotonic() + _RETRY_SECONDS
            return
        decision = policy.decide(rules, self._evidence(config, state, seen, observed))
        log.info("probation version=%s outcome=%s reason=%s", state.version, decision.state, decision.reason)
        if decision.state == "waiting":
            self._not_before = c.monotonic() + _RETRY_SECONDS
            return
        if decision.state == "rolled_back":
            self._roll_back(state, decision.reason)
        record = {"outcome": decision.state, "reason": decision.reason, "frames": len(seen), "at": c.now()}
        c.versions.annotate(state.version, {"probation": record})
        self.end()

    def _put_off(self, state: ProbationState, error: Exception) -> None:
        """An evaluation failed: try again later, and after several failures end the probation undecided."""
        self._failures += 1
        self._not_before = self._c.monotonic() + _RETRY_SECONDS
        expected = isinstance(error, (OSError, RuntimeError, VersionError))
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        log.warning("evaluation failed version=%s error=%s", state.version, reason, exc_info=not expected)
        self.text += f"; their evaluation failed: {reason}"
        if self._failures >= _MOST_FAILURES:
            record = {"outcome": "not decided", "reason": reason, "at": self._c.now()}
            self._c.versions.annotate(state.version, {"probation": record})
            self.end()

    def _observe(
        self, config: Config, state: ProbationState, seen: list[SeenSample], joules: float
    ) -> list[jobs.Observed] | None:
        """Run the evaluation; see ``compare_versions``."""
        versions = self._c.versions
        return compare_versions(
            self._c,
            config,
            self._watcher,
            name=f"probation-{state.version}",
            before=versions.directory(state.before),
            live=versions.directory(state.version),
            samples=[each.sample for each in seen],
            joules=joules,
        )

    def _evidence(
        self, config: Config, state: ProbationState, seen: list[SeenSample], observed: list[jobs.Observed]
    ) -> policy.Evidence:
        promotion, training = config.promotion, config.training
        captures = {each.sample.id: each.capture for each in seen}
        block = parse_duration(training.gate_block)
        pairs = paired_counts(
            [each.before for each in observed if each.before is not None],
            [each.live for each in observed if each.live is not None],
        )
        pairs = {i: pair for i, pair in pairs.items() if any(pair.labelled)}
        return policy.Evidence(
            comparison=bootstrap.compare(
                list(pairs.values()),
                block_numbers(list(pairs), captures, block),
                confidence=promotion.confidence,
            )
            if pairs
            else None,
            confidence=bootstrap.mean_change(
                [each.confidence_live - each.confidence_before for each in observed],
                block_numbers([each.id for each in observed], captures, block),
                confidence=promotion.confidence,
            ),
            agreement=sum(each.agreement for each in observed) / len(observed),
            samples=len(observed),
            untrained_before=base.is_untrained(self._c.versions.card(state.before)),
        )


def remove_leftovers(rounds: Path) -> None:
    """Remove the folders of comparisons that a crash cut short."""
    for pattern in (".probation-*", ".import-*"):
        for folder in rounds.glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)


def comparison_joules(config: Config, frames: int) -> float:
    """The gross joules that a comparison over a number of frames may cost."""
    return full_load_watts(config.energy) * (_START_SECONDS + _FRAME_SECONDS * frames)


def compare_versions(
    context: RoundContext,
    config: Config,
    watcher: Callable[[], ChildWatcher],
    *,
    name: str,
    before: Path,
    live: Path,
    samples: Sequence[jobs.JobSample],
    joules: float,
    estimate: Sequence[jobs.JobSample] = (),
) -> list[jobs.Observed] | None:
    """Run both models; None when a stop, the battery or the temperature cut it short.

    Args:
        context: The context of all rounds.
        config: The whole configuration.
        watcher: Makes a watcher for the child.
        name: Name of the account in the ledger, and of the child's folder.
        before: Folder of the first model.
        live: Folder of the second model.
        samples: Frames; ``label`` is empty where there is none.
        joules: Joules that it may spend; they are reserved first and settled afterwards.
        estimate: Samples that both models' statistics are estimated from first.

    Raises:
        RuntimeError: It failed, or reached its limit of time, memory or joules.
    """
    c = context
    folder = c.paths.rounds / f".{name}"
    shutil.rmtree(folder, ignore_errors=True)
    job_file = write_job(
        folder,
        jobs.ProbationJob(
            before=str(before.resolve()),
            live=str(live.resolve()),
            n_classes=len(config.model.classes),
            samples=tuple(samples),
            threads=usable(config.training.threads),
            conditions=config.conditions.enabled,
            estimate=tuple(estimate),
            device=config.training.device,
        ),
    )
    reserved = c.reserve(name, joules)
    found: list[jobs.Observed] = []
    lost: list[jobs.Unreadable] = []
    error = ""

    def take(event: jobs.Event) -> None:
        nonlocal error
        match event:
            case jobs.Observed():
                found.append(event)
            case jobs.Unreadable():
                lost.append(event)
            case jobs.Failed():
                error = event.error
            case jobs.OnDevice(reason=reason) if reason:
                log.warning("probation on the CPU reason=%s", reason)
            case _:
                pass

    try:
        ended = watcher().run(
            TrainerProcess(
                job_file,
                folder / "trainer.log",
                program="dance_ondevice.daemon.trainer.probation_main",
                priority=config.training.priority,
            ),
            Limits(
                deadline=c.monotonic() + parse_duration(config.training.max_round_duration),
                must_stop=reserved.must_stop,
            ),
            take,
        )
    finally:
        bill = reserved.settle()
    unreadable.mark(c.store, lost)
    if ended.limit == "stopping" or (ended.limit == "energy" and bill.gross < joules):
        return None  # another time: nothing is wrong with the process
    if ended.limit:
        raise RuntimeError(ended.reason)
    status = ended.exit.status
    if status != 0 or len(found) + len(lost) < len(samples):
        raise RuntimeError(error or f"it ended with status {status}, see {folder}/trainer.log")
    shutil.rmtree(folder, ignore_errors=True)
    return found or None  # without one that can be read there is nothing to tell
