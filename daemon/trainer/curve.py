"""The round's learning curve: mIoU on some of the gate samples, evaluated while the round trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.counts import Counts, paired_counts
from dance_ondevice.policies.promotion import bootstrap
from dance_ondevice.policies.rounds import pace
from dance_ondevice.training.batches import TrainingSample

Gate = Sequence[tuple[str, TrainingSample]]
#: The most samples that are evaluated for a point; more would cost too much, and these, evenly spread,
#: suffice.
_MOST_SAMPLES = 16


class Curve:
    """Scores the candidate on the same samples at several steps, compared with the live model's scores."""

    def __init__(
        self,
        job: jobs.Job,
        gate: Gate,
        live: Sequence[Counts],
        score: Callable[[nn.Module, Gate, float], tuple[Counts, ...]],
        emit: Callable[[jobs.Event], None],
        *,
        shares: Sequence[float] = (1.0,),
    ) -> None:
        """Choose the samples, evenly spread over the gate.

        Args:
            job: The round's job.
            gate: (id, sample) of each held-out sample.
            live: The live model's counts of the same samples, in the same order.
            score: Computes the counts of some of the samples by what a model makes that goes so far.
            emit: Reports each point to the parent.
            shares: How far the round's candidates go, see ``kinds.RoundKind``; the points are of the first.
        """
        step = max(1, -(-len(gate) // _MOST_SAMPLES))
        self._job = job
        self._gate = gate[::step]
        self._ids = {identifier for identifier, _ in self._gate}
        self._live = self._chosen(live)
        self._blocks = job.gate_blocks[::step]
        self._score_on = score
        self._emit = emit
        self._shares = shares
        self._start: float | None = None

    def begin(self, model: nn.Module, *, changed: bool) -> None:
        """Report the point before the first step: the live model's, unless the candidate was ``changed``."""
        counts = self._score(model, self._shares[0]) if changed else self._live
        self._start = self._point(0, counts).candidate

    def hopeless(self, model: nn.Module, step: int) -> str | None:
        """Score the candidate; at the first point, says why promotion is out of reach if it is.

        It is only where it is for each candidate that the round would try.
        """
        found = self._point(step, self._score(model, self._shares[0]))
        if self._start is None or not self._job.looks or step != self._job.looks[0]:
            return None
        reason = self._given_up(found, self._start)
        for share in self._shares[1:]:
            if reason is not None:
                nearer = self._compared(self._score(model, share))
                reason = reason if self._given_up(nearer, self._start) else None
        return reason

    def end(self, step: int, candidate: Sequence[Counts]) -> None:
        """Report the last point, taken from the scores of the first candidate on the whole gate."""
        self._point(step, self._chosen(candidate))

    def _score(self, model: nn.Module, share: float) -> tuple[Counts, ...]:
        return self._score_on(model, self._gate, share)

    def _given_up(self, found: bootstrap.Comparison, start: float) -> str | None:
        return pace.give_up(
            live=found.live,
            start=start,
            now=found.candidate,
            noise=found.gain.at_most() - found.gain.point,
            min_gain=self._job.min_gain,
        )

    def _chosen(self, counts: Sequence[Counts]) -> tuple[Counts, ...]:
        return tuple(each for each in counts if each.id in self._ids)

    def _point(self, step: int, counts: Sequence[Counts]) -> bootstrap.Comparison:
        compared = self._compared(counts)
        self._emit(jobs.CurvePoint(step=step, miou=compared.candidate, live=compared.live))
        return compared

    def _compared(self, counts: Sequence[Counts]) -> bootstrap.Comparison:
        found = list(paired_counts(self._live, counts).values())
        blocks = self._blocks if len(self._blocks) == len(found) else range(len(found))
        return bootstrap.compare(found, tuple(blocks), confidence=self._job.confidence, seed=self._job.seed)
