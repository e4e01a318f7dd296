"""Run of one variant over one stream: every frame is a test first, and may be learnt from afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dance_ondevice.benchmarks.device import peak_bytes
from dance_ondevice.benchmarks.stream import verdicts
from dance_ondevice.benchmarks.stream.choice import most_worth_labelling
from dance_ondevice.benchmarks.stream.condition import ConditionFollower
from dance_ondevice.benchmarks.stream.record import Promotion, RunRecord, Spending
from dance_ondevice.benchmarks.stream.streams import Segment
from dance_ondevice.benchmarks.stream.tools import Tools, between
from dance_ondevice.benchmarks.stream.variants import Variant
from dance_ondevice.benchmarks.stream.weights import Live, Weights
from dance_ondevice.images.confusion import miou
from dance_ondevice.policies.stream.conditions import BASE
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.continual import FadedConfusion

__all__ = ["Life"]

_TENTH, _THREE = 0.1, 3


@dataclass(frozen=True, eq=False)
class _Due:
    """Weights of a round that has begun and that the modelled board has not finished yet."""

    frame: int
    condition: str
    weights: Weights


@dataclass(eq=False)
class _Probation:
    """A promoted condition and the frames that both versions have seen since."""

    condition: str
    before: Weights
    samples: list[TrainingSample] = field(default_factory=list)


@dataclass(eq=False)
class _Pool:
    """Frames of one condition that may be learnt from."""

    new: list[TrainingSample] = field(default_factory=list)
    train: list[TrainingSample] = field(default_factory=list)
    held_out: list[TrainingSample] = field(default_factory=list)


class Life:
    """Run of a variant over the stream; make a new object for each run."""

    def __init__(self, tools: Tools, variant: Variant, seed: int) -> None:
        """Begin before the first frame, with the base model."""
        self._tools = tools
        self._variant = variant
        self._seed = seed
        self._settings = tools.settings
        anchors = _drawn(tools.stream.base, tools.settings.anchors, seed=0)
        self._rehearsal = anchors
        self._conditions = (
            ConditionFollower(tools.figures(sample) for sample in anchors) if variant.conditions else None
        )
        self._live = Live({BASE: tools.base})
        self._due: list[_Due] = []
        self._pools: dict[str, _Pool] = {}
        self._members: dict[str, list[TrainingSample]] = {}
        self._strange: list[TrainingSample] = []
        self._recent: list[TrainingSample] = []
        self._probation: _Probation | None = None
        self._curve: list[float] = []
        self._confidence: dict[Path, float] = {}
        self._spent: list[Spending] = []
        self._promotions: list[Promotion] = []
        self._opened: dict[str, int] = {}
        self._macs = 0
        self._peak = 0
        self._now = 0
        self._segment: Segment = tools.stream.segments[0]

    def run(self) -> RunRecord:
        """Run over the whole stream.

        Raises:
            SampleError: A frame cannot be read.
        """
        stream = self._tools.stream
        tasks = tuple(stream.tests)
        faded = FadedConfusion(self._tools.scorer.classes, self._settings.fading)
        rows, learnt = [self._row()], [0]
        for segment in stream.segments:
            self._segment = segment
            for sample in segment.frames:
                self._frame(sample, faded)
            self._tools.scorer.save()
            self._end_of_segment()
            rows.append(self._row())
            learnt.append(tasks.index(segment.task))
        return RunRecord(
            variant=self._variant.name,
            seed=self._seed,
            tasks=tasks,
            learnt=tuple(learnt),
            rows=tuple(rows),
            curve=tuple(self._curve),
            spent=tuple(self._spent),
            promotions=tuple(self._promotions),
            condition_bytes={
                name: weights.bytes_beside(self._tools.base)
                for name, weights in self._settled().by_condition.items()
                if name != BASE
            },
            opened=self._opened,
            training_macs=self._macs,
            peak_bytes=max(self._peak, peak_bytes()),
        )

    def _frame(self, sample: TrainingSample, faded: FadedConfusion) -> None:
        self._land()
        condition = self._condition(sample)
        score = self._tools.scorer.score(self._live.weights(condition), sample)
        self._curve.append(faded.add(score.matrix))
        self._confidence[sample.image] = score.confidence
        self._watch_probation(condition, sample)
        self._recent = [*self._recent, sample][-self._settings.estimate_frames :]
        self._now += 1
        if self._variant.re_estimate and not self._variant.conditions:
            self._follow_statistics()
        self._belongs(condition, [] if sample in self._strange else [sample])
        if (
            self._variant.labels == "all"
            and not self._due
            and len(self._pools[condition].new) >= self._settings.round_frames
        ):
            self._round(condition)

    def _belongs(self, condition: str, samples: Iterable[TrainingSample]) -> None:
        """Store the condition of some frames."""
        pool, members = self._pools.setdefault(condition, _Pool()), self._members.setdefault(condition, [])
        pool.new.extend(samples)
        members.extend(samples)

    # Conditions and statistics

    def _condition(self, sample: TrainingSample) -> str:
        if self._conditions is None:
            return BASE
        step = self._conditions.see(self._tools.figures(sample))
        if step.strange and not step.opened:
            self._strange.append(sample)
        if step.opened:
            self._open(step.opened, sample)
        elif not step.strange and self._strange:
            # One frame that fits takes two back, as in the policy.
            fitting, self._strange = self._strange[:2], self._strange[2:]
            self._belongs(step.condition, fitting)
        return step.condition

    def _open(self, name: str, sample: TrainingSample) -> None:
        """Open a new condition; its statistics come from its first frames, without labels."""
        frames = [*self._strange, sample][-self._settings.estimate_frames :]
        start = self._live.weights(BASE)
        self._opened[name] = self._now
        self._belongs(name, self._strange)
        self._strange = []
        new, cost = self._tools.re_estimated(start, frames)
        self._spend("conditions", cost)
        verdict, cost = verdicts.of_statistics(self._tools, start, new, frames)
        self._spend("gate", cost)
        self._decide(name, new, self._tools.inference_macs * len(frames), verdict)

    def _follow_statistics(self) -> None:
        """Measure the single set of statistics again on the latest frames."""
        if self._now % self._settings.estimate_frames:
            return
        new, cost = self._tools.re_estimated(self._tools.base, self._recent)
        self._spend("conditions", cost)
        self._decide(BASE, new, self._tools.inference_macs * len(self._recent), (True, "no gate"))

    # Rounds

    def _end_of_segment(self) -> None:
        self._strange = []
        for condition in list(self._pools):
            self._round(condition)
        if not self._variant.conditions:
            # What was learnt from stays with the segment: dense fine-tuning knows no other condition.
            self._pools.clear()
            self._members.clear()

    def _round(self, condition: str) -> None:
        """Learn from the labelled frames of a condition."""
        recipe, pool = self._variant.recipe, self._pools[condition]
        if recipe is None or len(pool.new) < self._settings.few:
            return
        if self._variant.conditions and condition == BASE:
            pool.new.clear()  # the base model knows this condition: no drift, nothing to learn
            return
        self._share_out(condition)
        settled = self._settled().weights(condition)
        trained = self._tools.rounds.run(
            recipe,
            settled,
            pool.train,
            rehearsal=_drawn(self._rehearsal, round(recipe.rehearsal * len(pool.train)), self._seed),
            held_out=pool.held_out,
            seed=self._seed,
        )
        self._spend("training", trained.log.cpu_seconds)
        self._macs += trained.log.macs
        self._peak = max(self._peak, trained.log.peak_bytes)
        share = self._variant.interpolation
        candidate = between(settled, trained.weights, share)
        if self._variant.gate and pool.held_out:
            too_much, cost = verdicts.costs_too_much(self._tools, settled, candidate, pool.held_out)
            if too_much:
                # One that is half as far from what serves now, as in the service; both were scored.
                candidate = between(settled, trained.weights, share / 2)
                self._spend("gate", cost)
        verdict = self._verdict(condition, settled, candidate)
        self._decide(condition, candidate, trained.log.macs, verdict)

    def _verdict(self, condition: str, settled: Weights, candidate: Weights) -> verdicts.Said:
        """May a candidate serve?"""
        pool = self._pools[condition]
        if self._variant.labels == "teacher" and not self._variant.teacher_judges:
            return False, "a model's labels cannot judge a candidate"
        if not self._variant.gate:
            return True, "no gate"
        verdict, cost = (
            verdicts.of_held_out(self._tools, settled, candidate, pool.held_out)
            if pool.held_out
            else verdicts.of_few_labels(
                self._tools, settled, candidate, pool.train, self._unlabelled(condition)
            )
        )
        self._spend("gate", cost)
        return verdict

    def _share_out(self, condition: str) -> None:
        """Assign the new frames for good: labelled or not, to training or held out."""
        pool, settings, labels = self._pools[condition], self._settings, self._variant.labels
        new = list(pool.new)
        pool.new.clear()
        if labels == "tenth":
            new = self._chosen(condition, new, max(1, round(_TENTH * len(new))))
        elif labels == "three":
            new = self._chosen(condition, new, _THREE)
        elif labels == "teacher" and self._tools.teacher is not None:
            # A teacher's labels cost no person's time: as many as a verdict needs are held out.
            most = settings.teacher_frames * (3 if self._variant.teacher_judges else 1)
            new, cost = self._tools.teacher.label(self._chosen(condition, new, most))
            self._spend("labelling", cost)
        held = 0
        if len(new) >= settings.few and labels == "all":
            held = min(settings.held_out, len(new) // 3)
        elif len(new) >= settings.few and self._variant.teacher_judges:
            held = len(new) // 3
        train, held_out = part(new, held)
        pool.train += train
        pool.held_out += held_out

    def _chosen(self, condition: str, samples: Sequence[TrainingSample], count: int) -> list[TrainingSample]:
        """The frames most worth a label; the model's confidence is known from when it segmented them."""
        return most_worth_labelling(
            samples,
            count,
            complexity=[self._tools.figures(sample)["complexity"] for sample in samples],
            confidence=[self._confidence[sample.image] for sample in samples],
            condition=condition,
        )

    def _unlabelled(self, condition: str) -> list[TrainingSample]:
        """Return frames of the condition, evenly spread over all; their labels are not used."""
        frames = self._members[condition]
        picked = np.linspace(0, len(frames) - 1, min(len(frames), self._settings.estimate_frames))
        return [frames[int(index)] for index in picked.round()]

    # Promotion, landing, probation

    def _decide(self, condition: str, weights: Weights, macs: int, verdict: tuple[bool, str]) -> None:
        passed, why = verdict
        settled = self._settled()
        before = after = None
        if passed or self._variant.labels == "teacher":
            before = self._task_score(settled)
            after = self._task_score(settled.with_weights(condition, weights))
        if passed:
            seconds = macs / self._settings.macs_per_second
            self._due.append(
                _Due(self._now + math.ceil(seconds * self._settings.frames_per_second), condition, weights)
            )
        self._promotions.append(
            Promotion(
                frame=self._now,
                segment=self._segment.name,
                condition=condition,
                outcome="promoted" if passed else "rejected",
                before=before,
                after=after,
                why=why,
            )
        )

    def _land(self) -> None:
        for due in [due for due in self._due if due.frame <= self._now]:
            if self._variant.gate and self._variant.recipe:
                self._probation = _Probation(due.condition, self._live.weights(due.condition))
            self._live = self._live.with_weights(due.condition, due.weights)
            self._due.remove(due)

    def _settled(self) -> Live:
        """Return the live weights once all pending rounds have finished."""
        live = self._live
        for due in self._due:
            live = live.with_weights(due.condition, due.weights)
        return live

    def _watch_probation(self, condition: str, sample: TrainingSample) -> None:
        """Score labelled frames with the version before, too, until there are enough to decide."""
        watched = self._probation
        if watched is None or watched.condition != condition or self._variant.labels != "all":
            return
        watched.samples.append(sample)
        self._spend("gate", self._tools.scorer.score(watched.before, sample).cpu_seconds)
        decided = verdicts.of_probation(
            self._tools, watched.before, self._live.weights(condition), watched.samples
        )
        if decided is None:
            return
        self._probation = None
        passed, why = decided
        if not passed:
            self._live = self._live.with_weights(condition, watched.before)
            self._due = [due for due in self._due if due.condition != condition]
            self._promotions.append(
                Promotion(
                    frame=self._now, segment=self._segment.name, condition=condition,
                    outcome="rolled back", before=None, after=None, why=why,
                )
            )  # fmt: skip

    # Measuring, which costs the variant nothing

    def _row(self) -> tuple[float, ...]:
        return tuple(self._score(self._settled(), samples) for samples in self._tools.stream.tests.values())

    def _task_score(self, live: Live) -> float:
        return self._score(live, self._tools.stream.tests[self._segment.task])

    def _score(self, live: Live, samples: Sequence[TrainingSample]) -> float:
        names = [BASE] * len(samples)
        if self._conditions is not None:
            names = self._conditions.of_test([self._tools.figures(sample) for sample in samples])
        matrix = sum(
            self._tools.scorer.score(live.weights(name), sample).matrix
            for name, sample in sorted(zip(names, samples, strict=True), key=lambda pair: pair[0])
        )
        self._tools.scorer.save()
        return miou(np.asarray(matrix, np.int64))

    def _spend(self, workload: str, cpu_seconds: float) -> None:
        self._spent.append(Spending(self._now, workload, cpu_seconds))


def part(
    samples: Sequence[TrainingSample], held: int
) -> tuple[Sequence[TrainingSample], Sequence[TrainingSample]]:
    """The samples to train on and the latest ``held`` ones, which judge; the one between them is left out."""
    if held == 0:
        return samples, ()
    return samples[: -held - 1], samples[-held:]


def _drawn(samples: Sequence[TrainingSample], count: int, seed: int) -> list[TrainingSample]:
    """So many of the samples, at random, in their order."""
    picked = np.random.default_rng(seed).permutation(len(samples))[:count]
    return [samples[index] for index in sorted(picked)]
