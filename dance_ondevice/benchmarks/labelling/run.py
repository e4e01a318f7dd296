"""Labels a stream's frames in several ways, trains one round on each, and measures what it gained."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import mean

import msgspec
import numpy as np
from numpy.typing import NDArray

from dance_ondevice.benchmarks.labelling.person import Habits, correct
from dance_ondevice.benchmarks.labelling.report import Arm, Gain, LabellingReport
from dance_ondevice.benchmarks.labelling.streams import Stream
from dance_ondevice.benchmarks.labelling.taps import Taps
from dance_ondevice.complexity import make_indicator
from dance_ondevice.conditions.learning import INTERPOLATION, part_way
from dance_ondevice.files import write_whole
from dance_ondevice.images.codec import decode_grey, encode_label
from dance_ondevice.images.confusion import miou
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.images.scaling import resize_for_inference
from dance_ondevice.images.signature import signature
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import CheckpointError, ModelCard
from dance_ondevice.models.forward import predict
from dance_ondevice.policies.samples.labelling import choose_for_labelling, shortlist
from dance_ondevice.policies.samples.splits import SampleInfo
from dance_ondevice.training.batches import TrainingSample, read_image, read_label
from dance_ondevice.training.evaluation import evaluate
from dance_ondevice.training.losses import UNLABELLED, Distillation
from dance_ondevice.training.trainer import Trainer, TrainingOptions

__all__ = ["Plan", "run"]

Mask = NDArray[np.uint8]

#: The way of whole labels.
_WHOLE = "labelled_frames"
_BATCH = 4
_SCALES = (0.5,)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        taps: Numbers of taps.
        share: Share of the frames that get whole labels.
        seeds: One round of each way for each.
        steps: Optimiser steps of each round.
        learning_rate: Of each round.
        habits: How the simulated person works.
        unlabelled: Weight of the live model's own answers where a label says nothing, in every way alike.
        interpolation: How far a round on corrections goes from the live weights (0) to the trained ones (1);
            one on whole labels goes all of the way, as in the service.
    """

    taps: tuple[int, ...] = (30, 100)
    share: float = 0.1
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 30
    learning_rate: float = 1e-3
    habits: Habits = field(default_factory=Habits)
    unlabelled: float = UNLABELLED
    interpolation: float = INTERPOLATION

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """Each way with its amount, in words."""
        return (
            *((way, str(count)) for way in ("taps", "random") for count in self.taps),
            (_WHOLE, f"{self.share:.0%}"),
        )


def run(plan: Plan, base: Path, stream: Stream, work: Path, *, say: Callable[[str], None]) -> LabellingReport:
    """Measure all ways; rounds whose result is in ``work`` are not trained again.

    Args:
        plan: What to measure.
        base: Folder of the model that serves while the person labels.
        stream: The frames.
        work: Folder for labels and results.
        say: Called with the name of each step as it begins.

    Raises:
        CheckpointError: The base does not load, or knows other classes.
        SampleError: An image or label cannot be used.
        TapsError: The page's code cannot be run.
    """
    model, card = checkpoint.load(base)
    if card.classes != stream.classes:
        raise CheckpointError(
            f"{base} tells {', '.join(card.classes)} apart, {stream.name} has {', '.join(stream.classes)}; "
            "`dance-ondevice pretrain --init BASE --class-map FILE --epochs 0` makes a model that does"
        )
    bench = _Bench(plan=plan, base=base, card=card, stream=stream, work=work, say=say)
    say(f"{stream.name}: {base.name} as it is")
    frozen = miou(evaluate(model, stream.tests, card.normalisation, len(stream.classes)))
    arms = [bench.arm(way, amount, seed) for seed in plan.seeds for way, amount in plan.ways]

    def gains(way: str) -> dict[str, float]:
        return {
            amount: float(mean(arm.miou for arm in arms if (arm.way, arm.amount) == (way, amount)) - frozen)
            for each, amount in plan.ways
            if each == way
        }

    return LabellingReport(
        stream=stream.name,
        frames_of=stream.about,
        base=f"{card.architecture} {card.version}".strip(),
        seed=plan.seeds[0],
        seeds=list(plan.seeds),
        frames=len(stream.pool),
        steps=plan.steps,
        batch_size=_BATCH,
        taps_a_frame=plan.habits.taps_a_frame,
        confirms=plan.habits.confirms,
        unlabelled=plan.unlabelled,
        interpolation=plan.interpolation,
        frozen=float(frozen),
        gain=Gain(taps=gains("taps"), random=gains("random"), labelled_frames=gains(_WHOLE)),
        arms=arms,
    )


@dataclass(frozen=True)
class _Frame:
    """A frame of the pool as the service knows it, and what the live model makes of it."""

    sample: TrainingSample
    info: SampleInfo
    predicted: Mask


@dataclass(frozen=True)
class _Labelled:
    """Labels of one way: by the frame's number in the pool."""

    labels: dict[int, Mask]
    taps: int


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """One base on one stream."""

    plan: Plan
    base: Path
    card: ModelCard
    stream: Stream
    work: Path
    say: Callable[[str], None]

    def arm(self, way: str, amount: str, seed: int) -> Arm:
        """One way with one seed, from ``work`` if it is there."""
        whole = way == _WHOLE
        habits = None if whole else self.plan.habits
        share = 1.0 if whole else self.plan.interpolation
        told = repr(
            (
                *(self.card.sha256, self.card.version, self.stream.about),
                *(self.plan.steps, self.plan.learning_rate, self.plan.unlabelled, habits, way, amount, seed),
                *(() if share == 1 else (share,)),
            )
        )
        file = self.work / f"{self.stream.name}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"
        if file.is_file():
            return msgspec.json.decode(file.read_bytes(), type=Arm)
        self.say(f"{self.stream.name}, seed {seed}: {way} {amount}")
        found = self._measured(way, amount, seed)
        write_whole(file, msgspec.json.encode(found))
        return found

    @cached_property
    def _frames(self) -> list[_Frame]:
        """The pool with all that the service knows of an unlabelled frame."""
        model, card = checkpoint.load(self.base)
        model.eval()
        indicator = make_indicator("detail_loss", _SCALES)
        found = []
        for index, sample in enumerate(self.stream.pool):
            image = read_image(sample)
            height, width = image.shape[:2]
            small = resize_for_inference(image, sample.scale)
            prediction = predict(model, small, card.normalisation, out_size=(height, width))
            grey = decode_grey(sample.image.read_bytes(), 1)
            info = SampleInfo(
                id=f"{index:05d}",
                camera="camera",
                captured_at=index * self.stream.seconds,
                score=indicator.measure(grey).score,
                labelled=False,
                uncertainty=1 - prediction.mean_confidence,
                signature=signature(grey),
            )
            found.append(_Frame(sample, info, prediction.mask))
        return found

    def _measured(self, way: str, amount: str, seed: int) -> Arm:
        began = time.process_time()
        labelled = self._whole(seed) if way == _WHOLE else self._tapped(way, int(amount), seed)
        share = 1.0 if way == _WHOLE else self.plan.interpolation
        score = self._round(labelled, f"{way}-{amount.rstrip('%')}-{seed}", seed, share)
        said = judged = right = pixels = 0
        for index, label in labelled.labels.items():
            truth = self._truth(index)
            known = (label != IGNORE) & (truth != IGNORE)
            pixels += label.size
            said += np.count_nonzero(label != IGNORE)
            judged += np.count_nonzero(known)
            right += np.count_nonzero(label[known] == truth[known])
        return Arm(
            way=way,
            amount=amount,
            seed=seed,
            frames=len(labelled.labels),
            taps=labelled.taps,
            labelled=float(said / max(1, pixels)),
            right=float(right / max(1, judged)),
            miou=float(score),
            cpu_seconds=round(time.process_time() - began, 1),
        )

    def _tapped(self, way: str, most: int, seed: int) -> _Labelled:
        """Labels of a person who has so many taps."""
        order = list(np.random.default_rng(seed).permutation(len(self._frames)))
        labels: dict[int, Mask] = {}
        taps = 0
        with Taps() as pieces:
            while taps < most and len(labels) < len(self._frames):
                index = self._asked_for(labels, seed) if way == "taps" else int(order[len(labels)])
                if index is None:
                    break
                frame = self._frames[index]
                done = correct(
                    pieces,
                    read_image(frame.sample),
                    frame.predicted,
                    self._truth(index),
                    most=most - taps,
                    habits=self.plan.habits,
                )
                labels[index] = done.label
                taps += done.taps
        return _Labelled({i: label for i, label in labels.items() if np.any(label != IGNORE)}, taps)

    def _whole(self, seed: int) -> _Labelled:
        """Whole labels of the frames that the service asks for."""
        labels: dict[int, Mask] = {}
        for _ in range(max(1, round(self.plan.share * len(self._frames)))):
            index = self._asked_for(labels, seed)
            if index is None:
                break
            labels[index] = self._truth(index)
        return _Labelled(labels, 0)

    def _asked_for(self, labels: dict[int, Mask], seed: int) -> int | None:
        """The frame to label next, as the page for labels has it; None where all others repeat.

        What chance has in it belongs to a frame's name, which is another one with each seed.
        """
        named = [replace(frame.info, id=f"{seed}-{frame.info.id}") for frame in self._frames]
        known = [
            replace(
                named[index],
                labelled=True,
                classes=frozenset(map(int, np.unique(label[label != IGNORE]))),
            )
            for index, label in sorted(labels.items())
        ]
        candidates = [info for index, info in enumerate(named) if index not in labels]
        chosen = choose_for_labelling(shortlist(candidates, 1), 1, labelled=known).ids
        return int(chosen[0].partition("-")[2]) if chosen else None

    def _truth(self, index: int) -> Mask:
        return read_label(self._frames[index].sample, len(self.stream.classes))

    def _round(self, labelled: _Labelled, name: str, seed: int, share: float) -> float:
        """mIoU after a round on the labels that goes so far to the trained weights."""
        model, card = checkpoint.load(self.base)
        options = TrainingOptions(
            steps=self.plan.steps,
            batch_size=_BATCH,
            num_classes=len(self.stream.classes),
            size=self.stream.size,
            learning_rate=self.plan.learning_rate,
            seed=seed,
        )
        samples = self._written(labelled, name)
        held = Distillation(
            checkpoint.load(self.base)[0],
            (),
            weight=0.0,
            corrected=range(len(samples)),
            unlabelled=self.plan.unlabelled,
        )
        start = copy.deepcopy(model.state_dict())
        for _ in Trainer(model, samples, options, card.normalisation, distillation=held):
            pass
        model = part_way(model, start, share).eval()
        return miou(evaluate(model, self.stream.tests, card.normalisation, len(self.stream.classes)))

    def _written(self, labelled: _Labelled, name: str) -> Sequence[TrainingSample]:
        folder = self.work / "labels" / self.stream.name / name
        folder.mkdir(parents=True, exist_ok=True)
        found = []
        for index, label in sorted(labelled.labels.items()):
            sample = self._frames[index].sample
            file = folder / f"{index:05d}.png"
            file.write_bytes(encode_label(label))
            found.append(TrainingSample(sample.image, file, scale=sample.scale))
        return found
