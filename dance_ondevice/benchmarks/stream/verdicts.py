"""The service's own gates, asked about a variant's weights: what they say, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import SupportsInt

from dance_ondevice.benchmarks.stream.scoring import FrameScore, total
from dance_ondevice.benchmarks.stream.tools import Tools
from dance_ondevice.benchmarks.stream.weights import Weights
from dance_ondevice.images.confusion import iou_per_class, miou
from dance_ondevice.policies.promotion import nearer, probation, promotion
from dance_ondevice.policies.promotion.bootstrap import Comparison, Pair, compare
from dance_ondevice.policies.promotion.rules import GateRules, Scores
from dance_ondevice.policies.stream import condition_gate
from dance_ondevice.training.batches import TrainingSample

__all__ = ["Said", "costs_too_much", "of_few_labels", "of_held_out", "of_probation", "of_statistics"]

#: Whether it passes, and why in words.
Said = tuple[bool, str]

#: By how much agreement with labels that a candidate learnt from must rise: every candidate rises there a
#: little, whatever it does elsewhere.
_MIN_LEARNT_GAIN = 0.03
_PROBATION = probation.ProbationRules(samples=8, min_samples=8)


def of_statistics(
    tools: Tools, live: Weights, new: Weights, frames: Sequence[TrainingSample]
) -> tuple[Said, float]:
    """May a new condition's statistics serve? Judged on confidence and diversity of masks, without labels."""
    rules = condition_gate.GateRules()
    return _by_confidence(tools, rules, (live, new), frames[-rules.frames :], ())


def of_few_labels(
    tools: Tools,
    live: Weights,
    new: Weights,
    labelled: Sequence[TrainingSample],
    unlabelled: Sequence[TrainingSample],
) -> tuple[Said, float]:
    """May a candidate serve that learnt from too few labels to hold any out?

    Its agreement with the very labels it learnt from must rise beyond what learning them by heart gives, and
    its calibration must hold; that is a check for accidents, not proof of a gain.
    """
    rules = condition_gate.GateRules(labelled_frames=1, max_miou_drop=-_MIN_LEARNT_GAIN)
    return _by_confidence(tools, rules, (live, new), unlabelled[-rules.frames :], labelled)


def of_held_out(
    tools: Tools, live: Weights, new: Weights, held_out: Sequence[TrainingSample]
) -> tuple[Said, float]:
    """May a candidate serve, by labelled frames that it never learnt from?"""
    before, after = tools.scorer.scores(live, held_out), tools.scorer.scores(new, held_out)
    verdict = promotion.judge(
        _scores(before),
        _scores(after),
        GateRules(),
        slimmed=False,
        classes=tools.stream.classes,
        comparison=_comparison(before, after),
    )
    return (verdict.outcome == "promoted", "; ".join(verdict.reasons)), _cost(before, after)


def costs_too_much(
    tools: Tools, live: Weights, new: Weights, held_out: Sequence[TrainingSample]
) -> tuple[bool, float]:
    """Should a candidate nearer to what serves now be tried, and what did it cost to score this one?

    What serves now is scored for the verdict in any case, and counted there.
    """
    before, after = tools.scorer.scores(live, held_out), tools.scorer.scores(new, held_out)
    return nearer.costs_too_much(_comparison(before, after), GateRules()), _cost(after)


def of_probation(
    tools: Tools, before: Weights, now: Weights, samples: Sequence[TrainingSample]
) -> Said | None:
    """Does a promoted version hold on labelled frames that came later? None while there are too few."""
    if len(samples) < _PROBATION.samples:
        return None
    old, new = tools.scorer.scores(before, samples), tools.scorer.scores(now, samples)
    decision = probation.decide(
        _PROBATION,
        probation.Evidence(
            comparison=_comparison(old, new), confidence=None, agreement=None, samples=len(samples)
        ),
    )
    return decision.state != "rolled_back", decision.reason


def _by_confidence(
    tools: Tools,
    rules: condition_gate.GateRules,
    live_and_new: tuple[Weights, Weights],
    frames: Sequence[TrainingSample],
    labelled: Sequence[TrainingSample],
) -> tuple[Said, float]:
    found, cost = [], 0.0
    for weights in live_and_new:
        seen, checked = tools.scorer.scores(weights, frames), tools.scorer.scores(weights, labelled)
        cost += _cost(seen, checked)
        found.append(_evidence(seen, checked))
    old, candidate = found
    verdict = condition_gate.judge(rules, candidate, old)
    if verdict is None:
        return (False, f"{len(frames)} frames are too few to judge by"), cost
    return (verdict.keep, verdict.reason), cost


def _evidence(seen: Sequence[FrameScore], labelled: Sequence[FrameScore]) -> condition_gate.Evidence:
    everything = [*seen, *labelled]
    pixels = total(everything, len(everything[0].matrix)).sum(axis=0)
    matrix = total(labelled, len(pixels))
    return condition_gate.Evidence(
        frames=len(everything),
        confidence=sum(score.confidence for score in everything) / len(everything),
        pixels=[int(count) for count in pixels],
        labelled=len(labelled),
        miou=miou(matrix) if labelled else None,
        accuracy=float(matrix.trace() / max(1, matrix.sum())) if labelled else None,
        labelled_confidence=sum(s.confidence for s in labelled) / len(labelled) if labelled else None,
    )


def _scores(scores: Sequence[FrameScore]) -> Scores:
    matrix = total(scores, len(scores[0].matrix))
    return Scores(
        miou=miou(matrix),
        iou_per_class=iou_per_class(matrix),
        pixels_per_class=tuple(int(count) for count in matrix.sum(axis=1)),
        samples=len(scores),
    )


def _comparison(before: Sequence[FrameScore], after: Sequence[FrameScore]) -> Comparison:
    pairs = [
        Pair(
            labelled=_counts(old.matrix.sum(axis=1)),
            live_hits=_counts(old.matrix.diagonal()),
            live_predicted=_counts(old.matrix.sum(axis=0)),
            candidate_hits=_counts(new.matrix.diagonal()),
            candidate_predicted=_counts(new.matrix.sum(axis=0)),
        )
        for old, new in zip(before, after, strict=True)
    ]
    # CamVid's labelled frames are a second apart, by which time a street has changed: a frame is a block.
    return compare(pairs, range(len(pairs)))


def _counts(values: Iterable[SupportsInt]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _cost(*groups: Sequence[FrameScore]) -> float:
    return sum(score.cpu_seconds for group in groups for score in group)
