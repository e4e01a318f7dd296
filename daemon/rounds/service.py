"""The rounds: decides when to learn, runs one trainer at a time, and puts the better model live.

One thread does all of it, so there is never more than one round, one promotion or one rollback at a time.
Others only post requests and read the published snapshot.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.planning import pace as round_pace
from dance_ondevice.daemon.rounds.context import Outcome, RoundContext
from dance_ondevice.daemon.rounds.drift_watch import DriftWatch
from dance_ondevice.daemon.rounds.procedure import RoundProcedure
from dance_ondevice.daemon.rounds.teaching import Teaching, TeachingState
from dance_ondevice.daemon.rounds.watch import Progress
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.state import atomic_write
from dance_ondevice.daemon.versions.versions import VersionError
from dance_ondevice.policies.budget.usefulness import Usefulness, suspended, usefulness
from dance_ondevice.policies.rounds import start as policy
from dance_ondevice.policies.samples.splits import SampleInfo

log = logging.getLogger(__name__)

#: Finished rounds that tell what learning has brought; of stopped and failed ones there may be many.
_LOOK_BACK = 50


@dataclass(frozen=True)
class Request:
    """Something asked of the rounds thread; ``id`` is how the asker finds the answer."""

    id: int
    kind: Literal["tick", "train", "promote", "rollback"]
    trigger: str
    version: str | None = None


@dataclass(frozen=True, kw_only=True)
class RoundsSnapshot:
    """What the rounds thread last published.

    Attributes:
        running: progress of the round that runs now.
        last: the last finished round.
        counts: rounds by outcome since the daemon started.
        waiting_for: why no round runs, in words.
        budget_joules: what training may spend now.
        paused: whether rounds are paused by the user.
        suspended: why no more rounds start by themselves, since learning has not helped; empty otherwise.
        learning: what learning has brought and cost so far, None before it was looked up.
        probation: what a version on probation still waits for; empty when none is.
        labelling: what the teacher does, see ``TeachingState``.
    """

    running: Progress | None = None
    last: Outcome | None = None
    counts: dict[str, int]
    waiting_for: str = ""
    budget_joules: float = 0.0
    paused: bool = False
    suspended: str = ""
    learning: Usefulness | None = None
    probation: str = ""
    labelling: Mapping[str, object] = field(default_factory=lambda: TeachingState().as_dict())


class Rounds(Service):
    """Owns the trainer process, the budget account and the version pointer."""

    # A promotion loads and warms up a model, a start-up may make an untrained one.
    max_silence = 120.0

    def __init__(
        self,
        context: RoundContext,
        *,
        min_new_samples: int,
        window: str,
        local_time: Callable[[], datetime] = datetime.now,
    ) -> None:
        super().__init__("rounds")
        self._context = context
        self._procedure = RoundProcedure(
            context, on_progress=self._progress, stopping=self.stopping, beat=self.beat
        )
        self._teaching = Teaching(
            context,
            stopping=self.stopping,
            beat=self.beat,
            on_change=lambda: self._publish(labelling=self._teaching.state.as_dict()),
        )
        self._drift = DriftWatch(context.drift, context.store)
        self._min_new_samples = min_new_samples
        self._window = window
        self._local_time = local_time
        self._requests: queue.Queue[Request | None] = queue.Queue(maxsize=64)
        self._ids = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._answers_lock = threading.Lock()
        self._pause_file = context.paths.root / "paused"
        self._state = RoundsSnapshot(
            counts={}, paused=self._pause_file.exists(), waiting_for="no request yet"
        )

    def snapshot(self) -> RoundsSnapshot:
        """The latest published state."""
        return self._state

    def tick(self, trigger: str) -> None:
        """Ask for a round if there is a reason for one; never blocks, extra ticks are dropped."""
        if self._requests.empty():
            self._post(Request(0, "tick", trigger))

    def train_now(self) -> int:
        """Ask for a round whatever the schedule says; returns the request's id.

        Raises:
            RuntimeError: too many requests wait already.
        """
        return self._enqueue("train", "requested", None)

    def promote(self, version: str) -> int:
        """Ask for a version to be made live by hand."""
        return self._enqueue("promote", "requested", version)

    def rollback(self, to: str | None) -> int:
        """Ask for the previous (or a named) version to be made live again."""
        return self._enqueue("rollback", "requested", to)

    def answer(self, request: int) -> dict[str, Any] | None:
        """What became of a request: ``{"state": "queued" | "running" | "done", ...}``; None if unknown."""
        with self._answers_lock:
            found = self._answers.get(request)
            return dict(found) if found is not None else None

    def pause(self) -> None:
        """Start no more rounds until ``resume``; survives a restart."""
        atomic_write(self._pause_file, b"")
        self._publish(paused=True)

    def resume(self) -> None:
        """Allow rounds again."""
        self._pause_file.unlink(missing_ok=True)
        self._publish(paused=False)

    def reconfigure(self, config: Config) -> None:
        """Decide by another configuration from the next decision on; a running round keeps its plan."""
        self._context.config = config
        self._min_new_samples = config.training.min_new_samples
        self._window = config.training.window

    def wake(self) -> None:
        """End the wait for a request."""
        self._post(None)

    def setup(self) -> None:
        """Settle what the last run left open."""
        self._procedure.recover()
        self._teaching.recover()
        self._look_back()
        self._publish(budget_joules=self._procedure.balance())

    def run(self) -> None:
        """Serve requests one by one; an interrupted round goes on first."""
        for outcome in self._procedure.resume_interrupted():
            self._finished(outcome)
        while not self.stopping.is_set():
            self.beat()
            try:
                request = self._requests.get(timeout=5.0)
            except queue.Empty:
                self._drift.look()
                self._look_after(round_ahead=False)
                self._publish(budget_joules=self._procedure.balance())
                continue
            if request is not None:
                self._serve(request)

    def _serve(self, request: Request) -> None:
        self._say(request.id, {"state": "running"})
        try:
            if request.kind in ("promote", "rollback"):
                self._say(request.id, self._switch(request))
                return
            if request.kind == "tick":
                self._teach()
            self._say(request.id, self._round(request))
        except Exception as error:  # a round must never take the service down: record it and go on
            log.exception("round request failed kind=%s", request.kind)
            self._publish(
                running=None, waiting_for=f"the last request failed: {type(error).__name__}: {error}"
            )
            self._say(
                request.id,
                {"state": "done", "outcome": "failed", "reasons": [f"{type(error).__name__}: {error}"]},
            )

    def _switch(self, request: Request) -> dict[str, Any]:
        try:
            if request.kind == "promote":
                pointer = self._procedure.switch(request.version or "", reason="promoted by hand")
            else:
                pointer = self._procedure.rollback(request.version)
        except VersionError as error:
            return {"state": "done", "outcome": "failed", "reasons": [str(error)]}
        return {"state": "done", "outcome": "live", "version": pointer.version, "reasons": []}

    def _round(self, request: Request) -> dict[str, Any]:
        forced = request.kind == "train"
        # A version on probation is judged before the frames that came since are learnt from.
        self._look_after(round_ahead=self._might_start(forced))
        if self._state.suspended and not forced:
            self._publish(waiting_for=self._state.suspended, budget_joules=self._procedure.balance())
            return {"state": "done", "outcome": "refused", "reasons": [self._state.suspended]}
        samples = self._procedure.samples()
        enough = self._enough(samples, forced)
        if enough:
            # Only now: blocks of time are cut better from many new samples than from each few that come.
            samples = self._procedure.assign_splits()
        if forced and not any(map(_may_teach, samples)):
            # Asked for by hand: what served before serves again.
            samples = [dataclasses.replace(s, rounds_used=0) for s in samples]
        # Those that have no place yet are waited with, not lost.
        new = [s for s in samples if (_may_teach if enough else _might_teach)(s)]
        drifted = self._drift.drifted(new)
        known = self._drift.latest
        decision = policy.should_start(
            new_labelled=len(new),
            min_new_samples=self._min_new_samples,
            paused=self._state.paused,
            window_open=policy.in_window(self._window, _minutes(self._local_time())),
            forced=forced,
            window=self._window,
            drifted=drifted,
            min_after_drift=self._context.config.training.min_new_samples_after_drift,
        )
        if not decision.start:
            self._publish(waiting_for=decision.reason, budget_joules=self._procedure.balance())
            return {"state": "done", "outcome": "refused", "reasons": [decision.reason]}
        outcome: Outcome | str | None = None
        try:
            outcome = self._procedure.run(samples, trigger=request.trigger, reason=decision.reason)
        finally:
            # One alarm starts one round at most, however that ends; a round that did not start is none.
            if not isinstance(outcome, str):
                self._drift.answered(policy.answered(drifted, self._after_drift()), known)
        if isinstance(outcome, str):
            self._publish(waiting_for=outcome, budget_joules=self._procedure.balance())
            return {"state": "done", "outcome": "refused", "reasons": [outcome]}
        self._finished(outcome)
        return {"state": "done", **outcome.as_dict()}

    def _teach(self) -> None:
        """Let the teacher label what it may, before a round asks for labels."""
        if self._state.paused or not policy.in_window(self._window, _minutes(self._local_time())):
            return
        try:
            self._teaching.look()
        except Exception as error:  # it must never take the service down, nor keep rounds from running
            log.exception("labelling failed")
            self._publish(
                labelling={
                    **self._state.labelling,
                    "state": "failed",
                    "reason": f"{type(error).__name__}: {error}",
                }
            )

    def _might_start(self, forced: bool) -> bool:
        return self._enough(self._procedure.samples(), forced)

    def _enough(self, samples: Iterable[SampleInfo], forced: bool) -> bool:
        """Whether there may be enough to learn from, once each sample has its place."""
        might = [sample for sample in samples if _might_teach(sample)]
        if forced or len(might) >= self._min_new_samples:
            return True
        return bool(policy.answered(self._drift.drifted(might), self._after_drift()))

    def _after_drift(self) -> int:
        configured = self._context.config.training.min_new_samples_after_drift
        return policy.needed_after_drift(self._min_new_samples, configured)

    def _look_after(self, *, round_ahead: bool) -> None:
        """See to a version on probation."""
        before = self._procedure.probation.text
        try:
            self._procedure.probation.look(round_ahead=round_ahead)
        except Exception as error:  # it must never take the service down, nor keep rounds from running
            log.exception("probation failed")
            self._publish(probation=f"the look at the version on probation failed: {error}")
            return
        if before and not self._procedure.probation.text:
            self._look_back()
        self._publish(probation=self._procedure.probation.text)

    def _look_back(self) -> None:
        """What learning has brought so far, and whether it goes on."""
        after = self._context.config.training.suspend_after_rounds
        judged = round_pace.judged(self._procedure.past_rounds(max(_LOOK_BACK, after)))
        self._publish(
            learning=usefulness(judged, self._procedure.spent_joules()),
            suspended=suspended(judged, after) or "",
        )

    def _finished(self, outcome: Outcome) -> None:
        self._look_back()
        counts = dict(self._state.counts)
        counts[outcome.outcome] = counts.get(outcome.outcome, 0) + 1
        self._publish(
            running=None,
            last=outcome,
            counts=counts,
            waiting_for=self._state.suspended or "waiting for new labelled samples",
            budget_joules=self._procedure.balance(),
        )
        self._context.instruments.round_finished(outcome.outcome)

    def _progress(self, progress: Progress | None) -> None:
        self.beat()
        self._drift.look()
        self._publish(running=progress, budget_joules=self._procedure.balance())

    def _publish(self, **changes: Any) -> None:
        # Two threads publish (this one, and the control thread's pause): last one wins on each field.
        with self._answers_lock:
            self._state = RoundsSnapshot(**{**_fields(self._state), **changes})

    def _enqueue(
        self, kind: Literal["train", "promote", "rollback"], trigger: str, version: str | None
    ) -> int:
        request = Request(next(self._ids), kind, trigger, version)
        self._say(request.id, {"state": "queued"})
        if not self._post(request):
            self._say(
                request.id, {"state": "done", "outcome": "refused", "reasons": ["too many requests wait"]}
            )
        return request.id

    def _post(self, request: Request | None) -> bool:
        try:
            self._requests.put_nowait(request)
        except queue.Full:
            return False
        return True

    def _say(self, request_id: int, answer: dict[str, Any]) -> None:
        if request_id == 0:
            return
        with self._answers_lock:
            self._answers[request_id] = answer
            for old in sorted(self._answers)[:-100]:
                del self._answers[old]


def _may_teach(sample: SampleInfo) -> bool:
    return sample.labelled and sample.split == "train" and sample.rounds_used == 0


def _might_teach(sample: SampleInfo) -> bool:
    return _may_teach(sample) or (sample.labelled and sample.split is None)


def _fields(snapshot: RoundsSnapshot) -> dict[str, Any]:
    return {name: getattr(snapshot, name) for name in snapshot.__dataclass_fields__}


def _minutes(moment: datetime) -> int:
    return moment.hour * 60 + moment.minute
