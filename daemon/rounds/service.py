"""The rounds thread: decides when to learn, runs one trainer at a time, and puts the better model live.

One thread does all of it, so there is never more than one round, one promotion or one rollback at a time.
Other threads only post requests and read the published snapshot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dance_ondevice.daemon.config.sections import Config, Training
from dance_ondevice.daemon.planning import pace as round_pace
from dance_ondevice.daemon.planning.fit import EnergyRefusal
from dance_ondevice.daemon.rounds import verdict
from dance_ondevice.daemon.rounds.context import Outcome, RoundContext, RoundsSnapshot
from dance_ondevice.daemon.rounds.drift_watch import DriftWatch
from dance_ondevice.daemon.rounds.fleet.box import FleetPart
from dance_ondevice.daemon.rounds.fleet.work import FleetWork
from dance_ondevice.daemon.rounds.procedure import RoundProcedure
from dance_ondevice.daemon.rounds.teaching import Teaching, TeachingState
from dance_ondevice.daemon.rounds.watch import Progress
from dance_ondevice.daemon.system.guard import Guard
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.versions.versions import VersionError
from dance_ondevice.files import write_durably
from dance_ondevice.policies.budget.usefulness import suspended, usefulness
from dance_ondevice.policies.rounds import start as policy
from dance_ondevice.policies.rounds import stock
from dance_ondevice.policies.samples.splits import SampleInfo
from dance_ondevice.policies.samples.wanted import WantedLabels

#: Finished rounds from which the benefit of learning is reported; many of them may be stopped or failed.
_REVIEWED_ROUNDS = 50

Kind: TypeAlias = Literal["tick", "train", "promote", "rollback", "import"]


@dataclass(frozen=True)
class Request:
    """A request to the rounds thread; the one who asked finds the answer by its ``id``."""

    id: int
    kind: Kind
    trigger: str
    version: str | None = None  # or the folder of a model to bring in


class Rounds(Service):
    """Owns the trainer process, the budget account and the version pointer."""

    # A promotion loads and warms up a model, and a start-up may create an untrained one.
    max_silence = 120.0

    def __init__(self, context: RoundContext, *, local_time: Callable[[], datetime] = datetime.now) -> None:
        super().__init__("rounds")
        self._context = context
        self._procedure = RoundProcedure(
            context, on_progress=self._progress, stopping=self.stopping, beat=self.beat
        )
        self._fleet = self._fleet_work(context.fleet) if context.fleet is not None else None
        self._teaching = Teaching(
            context,
            stopping=self.stopping,
            beat=self.beat,
            on_change=lambda: self._publish(labelling=self._teaching.state.as_dict()),
        )
        self._drift = DriftWatch(context.drift, context.store)
        self._local_time = local_time
        self._requests: queue.Queue[Request | None] = queue.Queue(maxsize=64)
        self._ids = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._answers_lock = threading.Lock()
        self._counted = (-1, -1)  # ``StoreSnapshot.labels`` when the stock was counted last
        self._undecided: tuple[WantedLabels | None, int] = (None, 0)  # with the labels come until then
        self._interrupted = True  # the last run may have left rounds open
        self._guard = Guard(lambda job, why: self._publish(running=None, waiting_for=f"{job} failed: {why}"))
        self._pause_file = context.paths.root / "paused"
        self._state = RoundsSnapshot(
            counts={}, paused=self._pause_file.exists(), labelling=TeachingState().as_dict()
        )

    def snapshot(self) -> RoundsSnapshot:
        """The latest published state."""
        return self._state

    @property
    def anchors_unreadable(self) -> tuple[str, ...]:
        """Why anchors were left out of the latest round, one sentence each."""
        return self._procedure.anchors_unreadable

    @property
    def folder_bytes(self) -> int:
        """What the folders of rounds take on the disk, as of the end of the last one."""
        return self._procedure.folder_bytes

    def tick(self, trigger: str) -> None:
        """Ask for a round if there is a reason for one; never blocks, extra ticks are dropped."""
        if self._requests.empty():
            self._post(Request(0, "tick", trigger))

    def train_now(self) -> int:
        """Ask for a round whatever the schedule says; returns the request's id.

        It never blocks. Where too many requests wait already, ``answer`` says that this one was refused.
        """
        return self._enqueue("train", "requested", None)

    def promote(self, version: str) -> int:
        """Ask for a version to be made live by hand."""
        return self._enqueue("promote", "requested", version)

    def rollback(self, to: str | None) -> int:
        """Ask for the previous (or a named) version to be made live again."""
        return self._enqueue("rollback", "requested", to)

    def bring_in(self, folder: str) -> int:
        """Ask for the model in a folder to be brought in."""
        return self._enqueue("import", "requested", folder)

    def answer(self, request: int) -> dict[str, Any] | None:
        """The state of a request: ``{"state": "queued" | "running" | "done", ...}``; None if unknown."""
        with self._answers_lock:
            found = self._answers.get(request)
            return dict(found) if found is not None else None

    def pause(self) -> None:
        """Start no more rounds until ``resume``; survives a restart."""
        write_durably(self._pause_file, b"")
        self._publish(paused=True)

    def resume(self) -> None:
        """Allow rounds again."""
        self._pause_file.unlink(missing_ok=True)
        self._publish(paused=False)

    def reconfigure(self, config: Config) -> None:
        """Use another configuration from the next decision on; a running round keeps its own."""
        if config.energy != self._context.config.energy:  # the refusal was by the old limits
            self._publish(refused="", refused_for_energy=False)
        self._context.config = config

    def wake(self) -> None:
        """End the wait for a request."""
        self._post(None)

    def setup(self) -> None:
        """Recover the rounds and labelling runs that the last run left open."""
        self._guard.run("the recovery of rounds", self._procedure.recover)
        self._guard.run("the recovery of labelling", self._teaching.recover)
        self._guard.run("the review of past rounds", self._review_learning)
        self._guard.run("the removal of old folders", self._procedure.tidy)
        self._guard.run("the count of samples", self._count)
        self._publish(budget_joules=self._procedure.balance())

    def run(self) -> None:
        """Serve requests one by one; interrupted rounds are resumed first, as soon as a round may run."""
        while not self.stopping.is_set():
            self.beat()
            self._guard.run("resuming an interrupted round", self._resume_interrupted)
            self._guard.run("the work for the fleet", self._serve_fleet)
            try:
                request = self._requests.get(timeout=5.0)
            except queue.Empty:
                self._guard.run("the drift watch", self._ask_for_labels)
                self._check_probation(round_ahead=False)
                if self._counted != self._context.store.snapshot().labels:
                    self._guard.run("the count of samples", self._count)
                self._publish(budget_joules=self._procedure.balance())
                continue
            if request is not None:
                self._serve(request)
                self._guard.run("the count of samples", self._count)

    def _count(self) -> None:
        """Count what a round would find."""
        self._counted = self._context.store.snapshot().labels
        samples = self._procedure.samples()
        drifted = self._drift.drifted([sample for sample in samples if stock.might_teach(sample)])
        training = self._context.config.training
        found = stock.count(
            samples,
            min_new_samples=training.min_new_samples,
            drifted=drifted,
            needed_after_drift=_after_drift(training),
            teacher_judges=self._procedure.teacher_judges(),
        )
        self._publish(stock=found, stock_of=self._counted[1])

    def _ask_for_labels(self) -> None:
        """Publish which labels a person is asked for: after a drift, and to decide on the last candidate."""
        self._drift.update()
        wanted = self._drift.wanting(_after_drift(self._context.config.training))
        undecided, then = self._undecided
        if undecided and self._context.store.snapshot().labels_come < then + undecided.frames:
            wanted += (undecided,)
        self._publish(labels_wanted=wanted)

    def _serve(self, request: Request) -> None:
        def failed(text: str) -> None:
            self._publish(running=None, waiting_for=f"the last request failed: {text}")
            self._set_answer(request.id, {"state": "done", "outcome": "failed", "reasons": [text]})

        self._set_answer(request.id, {"state": "running"})
        self._guard.run(
            f"the request {request.kind}",
            lambda: self._set_answer(request.id, self._answered(request)),
            failed,
        )

    def _answered(self, request: Request) -> dict[str, Any]:
        """Do what a request asks for and return the answer."""
        if request.kind in ("promote", "rollback", "import"):
            return self._switch(request)
        if request.kind == "tick":
            self._teach()
        elif (outcome := self._resume_interrupted(forced=True)) is not None:
            return {"state": "done", **outcome.as_dict()}
        return self._round(request)

    def _resume_interrupted(self, *, forced: bool = False) -> Outcome | None:
        """Resume the rounds that the last run left open; returns the outcome of the last one resumed.

        A pause holds them back, and so does the window unless the user asked for a round now. A round that
        already has its verdict is only completed, which nothing holds back.
        """
        if not self._interrupted:
            return None
        # Also where it fails: the next start tries again, not the next second.
        outcome, self._interrupted = None, False
        for row in self._procedure.interrupted():
            if self.stopping.is_set():
                break
            obstacle = None if self._procedure.is_judged(row) else self._hold(self._context.config, forced)
            if obstacle:
                self._interrupted = True
                self._publish(waiting_for=f"round {row['id']} was interrupted and waits: {obstacle}")
                continue
            self._publish(running=Progress(row["id"], 0, 0, None))
            outcome = self._procedure.resume(row)
            self._finished(outcome, trained=row["fleet_release"] is None)
        return outcome

    def _fleet_work(self, part: FleetPart) -> FleetWork:
        part.box.on_arrival = self.wake
        return FleetWork(
            context=self._context,
            part=part,
            samples=self._procedure.assign_splits,
            watcher=lambda: self._context.watcher(self.stopping, self.beat),
            run=self._procedure.run_part,
            on_probation=lambda: self._procedure.probation.pending,
        )

    def _serve_fleet(self) -> None:
        """Offer what was learnt, and judge what the fleet has."""
        if self._fleet is not None and not self._interrupted:
            outcome = self._fleet.step(self._hold(self._context.config, forced=False))
            if outcome is not None:
                self._finished(outcome, trained=False)

    def _hold(self, config: Config, forced: bool) -> str | None:
        """Why no round may run now, in words; None when one may."""
        if self._state.paused:
            return "paused"
        window = config.training.window
        if not forced and not policy.in_window(window, _minutes(self._local_time())):
            return f"outside the window {window}"
        return None

    def _switch(self, request: Request) -> dict[str, Any]:
        try:
            if request.kind == "import":
                return self._procedure.bring_in(Path(request.version or ""))
            if request.kind == "promote":
                pointer = self._procedure.switch(request.version or "", reason="promoted by hand")
            else:
                pointer = self._procedure.rollback(request.version)
        except (VersionError, OSError, RuntimeError) as error:
            return {"state": "done", "outcome": "failed", "reasons": [str(error)]}
        finally:
            self._review_learning()
        return {"state": "done", "outcome": "live", **dataclasses.asdict(pointer), "reasons": []}

    def _round(self, request: Request) -> dict[str, Any]:
        config = self._context.config
        training = config.training
        forced = request.kind == "train"
        # A version on probation is evaluated before a round learns from the frames that came since.
        self._check_probation(round_ahead=self._enough(training, self._procedure.samples(), forced))
        if self._state.suspended and not forced:
            self._publish(waiting_for=self._state.suspended, budget_joules=self._procedure.balance())
            return {"state": "done", "outcome": "refused", "reasons": [self._state.suspended]}
        samples = self._procedure.samples()
        enough = self._enough(training, samples, forced)
        if enough:
            # Not earlier: blocks of time are cut better from many new samples at once than from a few at a
            # time.
            samples = self._procedure.assign_splits(config)
        if forced and not any(map(stock.may_teach, samples)):
            # The user asked for a round: samples that were used before may be used again.
            samples = [dataclasses.replace(s, rounds_used=0) for s in samples]
        # Samples without a split are not lost: they stay new and count for the next round.
        new = [s for s in samples if (stock.may_teach if enough else stock.might_teach)(s)]
        drifted = self._drift.drifted(new)
        known = self._drift.latest
        decision = policy.should_start(
            new_labelled=len(new),
            min_new_samples=training.min_new_samples,
            paused=self._state.paused,
            window_open=policy.in_window(training.window, _minutes(self._local_time())),
            forced=forced,
            window=training.window,
            drifted=drifted,
            min_after_drift=training.min_new_samples_after_drift,
        )
        if not decision.start:
            self._publish(waiting_for=decision.reason, budget_joules=self._procedure.balance())
            return {"state": "done", "outcome": "refused", "reasons": [decision.reason]}
        outcome: Outcome | str | None = None
        try:
            outcome = self._procedure.run(
                samples, config=config, trigger=request.trigger, reason=decision.reason
            )
        finally:
            # One alarm starts at most one round, however that ends; one that did not start does not count.
            if not isinstance(outcome, str):
                self._drift.answered(policy.answered(drifted, _after_drift(training)), known)
        if isinstance(outcome, str):
            reason = str(outcome)  # answers hold no class of their own
            self._publish(
                waiting_for=reason,
                refused=reason,
                refused_for_energy=isinstance(outcome, EnergyRefusal),
                budget_joules=self._procedure.balance(),
            )
            return {"state": "done", "outcome": "refused", "reasons": [reason]}
        self._finished(outcome)
        return {"state": "done", **outcome.as_dict()}

    def _teach(self) -> None:
        """Let the teacher label samples before a round counts the labelled ones."""
        if self._hold(self._context.config, forced=False):
            return
        self._guard.run("labelling", self._teaching.run, lambda text: self._publish(
            labelling={**self._state.labelling, "state": "failed", "reason": text}
        ))  # fmt: skip

    def _enough(self, training: Training, samples: Iterable[SampleInfo], forced: bool) -> bool:
        """Whether there may be enough samples to learn from, once each has its split."""
        might = [sample for sample in samples if stock.might_teach(sample)]
        if forced or len(might) >= training.min_new_samples:
            return True
        return bool(policy.answered(self._drift.drifted(might), _after_drift(training)))

    def _check_probation(self, *, round_ahead: bool) -> None:
        """Evaluate the version on probation if one is due, and publish what it waits for."""

        def check() -> None:
            probation = self._procedure.probation
            before = probation.text
            probation.evaluate(round_ahead=round_ahead)
            if before and not probation.text:
                self._review_learning()
            self._publish(probation=probation.text)

        words = "the evaluation of the version on probation failed"
        self._guard.run("probation", check, lambda text: self._publish(probation=f"{words}: {text}"))

    def _review_learning(self) -> None:
        """Publish what learning has gained so far, and whether rounds still start by themselves."""
        after = self._context.config.training.suspend_after_rounds
        past = self._procedure.past_rounds(max(_REVIEWED_ROUNDS, after))
        known = round_pace.of_live(past, self._context.versions.pointer())
        self._publish(
            learning=usefulness(known, self._procedure.spent_joules()),
            suspended=suspended(round_pace.of_first(past, self._context.versions.pointer()), after) or "",
        )

    def _finished(self, outcome: Outcome, *, trained: bool = True) -> None:
        self._guard.run("the review of past rounds", self._review_learning)
        self._guard.run("the removal of old folders", self._procedure.tidy)
        self._guard.run("the labels that are wanted", lambda: self._remember_lack(outcome))
        counts = dict(self._state.counts)
        counts[outcome.outcome] = counts.get(outcome.outcome, 0) + 1
        self._publish(
            running=None,
            last=outcome,
            counts=counts,
            refused="",
            waiting_for=self._state.suspended or "waiting for new labelled samples",
            budget_joules=self._procedure.balance(),
        )
        # Versions of the fleet are counted by themselves: two refusals of one say nothing about learning.
        if trained:
            self._context.instruments.round_finished(outcome.outcome)

    def _remember_lack(self, outcome: Outcome) -> None:
        """Take note of which labels would have decided on a candidate."""
        card = self._context.versions.card(outcome.version) if outcome.version else {}
        wanted = verdict.labels_wanted(card) if outcome.outcome == "rejected" else None
        self._undecided = wanted, self._context.store.snapshot().labels_come

    def _progress(self, progress: Progress | None) -> None:
        # A round does not end because the alarms could not be read.
        self._guard.run("the drift watch", self._drift.update, lambda text: None)
        self._publish(running=progress, budget_joules=self._procedure.balance())

    def _publish(self, **changes: Any) -> None:
        # Two threads publish (this one, and the control thread for a pause): the last one wins on each field.
        with self._answers_lock:
            self._state = dataclasses.replace(self._state, **changes)

    def _enqueue(self, kind: Kind, trigger: str, version: str | None) -> int:
        request = Request(next(self._ids), kind, trigger, version)
        self._set_answer(request.id, {"state": "queued"})
        if not self._post(request):
            why = ["too many requests wait"]
            self._set_answer(request.id, {"state": "done", "outcome": "refused", "reasons": why})
        return request.id

    def _post(self, request: Request | None) -> bool:
        with contextlib.suppress(queue.Full):
            self._requests.put_nowait(request)
            return True
        return False

    def _set_answer(self, request_id: int, answer: dict[str, Any]) -> None:
        if request_id == 0:
            return
        with self._answers_lock:
            self._answers[request_id] = answer
            for old in sorted(self._answers)[:-100]:
                del self._answers[old]


def _after_drift(training: Training) -> int:
    return policy.needed_after_drift(training.min_new_samples, training.min_new_samples_after_drift)


def _minutes(moment: datetime) -> int:
    return moment.hour * 60 + moment.minute
