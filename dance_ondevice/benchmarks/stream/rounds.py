"""One training round of a variant: from weights and labelled frames to a candidate and what it cost."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import safetensors.torch

from dance_ondevice.benchmarks.device import peak_bytes
from dance_ondevice.benchmarks.stream.scoring import Scorer, total
from dance_ondevice.benchmarks.stream.weights import Weights, weights_of
from dance_ondevice.conditions.learning import learning, own_parameters
from dance_ondevice.images.confusion import miou
from dance_ondevice.policies.rounds.pace import evaluation_steps, give_up
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.precision import Precision
from dance_ondevice.training.trainer import Trainer, TrainingDiverged, TrainingOptions

__all__ = ["Recipe", "RoundLog", "Rounds", "Trained"]

Part = Literal["all", "own"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a round's training.

    Attributes:
        part: What learns: "all", or what a condition may have for its "own", see ``own_parameters``.
        steps: Optimiser steps at most.
        learning_rate: Learning rate of AdamW.
        scale: Scale of the training images relative to the stream's frames.
        zoom: Smallest and largest zoom, see ``BatchOptions``.
        batch_size: Images in a step.
        rehearsal: Number of samples of the base domain for each labelled one of the stream.
        own_statistics: True keeps batch norm's statistics as estimated for the condition; else they follow
            the batches.
        look_every: Number of steps between evaluations on the held-out frames, of which the best is kept; 0
            evaluates after a third, after two thirds and at the end, and gives up when hopeless.
        charge_looks: True charges evaluations to the round.
    """

    part: Part = "all"
    steps: int = 40
    learning_rate: float = 1e-3
    scale: float = 1.0
    zoom: tuple[float, float] = (0.75, 1.75)
    batch_size: int = 8
    rehearsal: float = 0.0
    own_statistics: bool = False
    look_every: int = 0
    charge_looks: bool = True


class RoundLog(msgspec.Struct, frozen=True):
    """Cost and curve of a round.

    Attributes:
        steps: Optimiser steps up to the weights that were kept.
        cpu_seconds: CPU seconds up to them, with evaluations on held-out frames if they are charged.
        macs: Multiply-accumulates of training up to them.
        curve: Steps with mIoU on the held-out frames; empty without held-out frames.
        stopped: Reason why it ended early; "" if it did not.
        peak_bytes: Peak resident memory of its process by its end.
    """

    steps: int
    cpu_seconds: float
    macs: int
    curve: tuple[tuple[int, float], ...] = ()
    stopped: str = ""
    peak_bytes: int = 0


@dataclass(frozen=True, eq=False)
class Trained:
    """The candidate of a round and its log."""

    weights: Weights
    log: RoundLog


class Rounds:
    """Runner of rounds, which caches them in files by all their inputs, so that none is run twice."""

    def __init__(
        self,
        scorer: Scorer,
        size: tuple[int, int],
        precision: Precision,
        folder: Path,
        *,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        """Train at ``size`` (height, width) times the recipe's scale; the folder is made if missing."""
        self._scorer = scorer
        self._size = size
        self._precision = precision
        self._folder = folder
        self._cpu_clock = cpu_clock
        folder.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        recipe: Recipe,
        start: Weights,
        samples: Sequence[TrainingSample],
        *,
        rehearsal: Sequence[TrainingSample] = (),
        held_out: Sequence[TrainingSample] = (),
        seed: int = 0,
    ) -> Trained:
        """Train from ``start`` on the samples, or read the cached result of the same round.

        Raises:
            ValueError: There are no samples.
            SampleError: A sample cannot be used.
        """
        names = [[_name(s) for s in group] for group in (samples, rehearsal, held_out)]
        told = repr((recipe, start.key, names, seed, self._size, self._precision))
        key = hashlib.sha256(told.encode()).hexdigest()[:20]
        folder = self._folder / key
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            log = msgspec.json.decode((folder / "round.json").read_bytes(), type=RoundLog)
            return Trained(Weights(safetensors.torch.load_file(folder / "weights.safetensors")), log)
        found = self._train(recipe, start, (*samples, *rehearsal), held_out, seed)
        folder.mkdir(exist_ok=True)
        safetensors.torch.save_file(dict(found.weights.tensors), folder / "weights.safetensors")
        (folder / "round.json").write_bytes(msgspec.json.encode(found.log))  # last: it says that all is there
        return found

    def _train(
        self,
        recipe: Recipe,
        start: Weights,
        samples: Sequence[TrainingSample],
        held_out: Sequence[TrainingSample],
        seed: int,
    ) -> Trained:
        model = self._scorer.lend()
        start.load_into(model)
        options = TrainingOptions(
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            num_classes=self._scorer.classes,
            size=(round(self._size[0] * recipe.scale), round(self._size[1] * recipe.scale)),
            zoom=recipe.zoom,
            learning_rate=recipe.learning_rate,
            precision=self._precision,
            seed=seed,
        )
        watch = _Stopwatch(self._cpu_clock)
        live, cost = self._look(start, held_out, watch)
        watch.add(cost if recipe.charge_looks else 0.0)
        curve: list[tuple[int, float]] = []
        kept: Trained | None = Trained(start, RoundLog(0, 0.0, 0)) if recipe.look_every and held_out else None
        looks = _looks(recipe) if held_out else frozenset()
        stopped, macs, step = "", 0, 0
        parts = None if recipe.part == "all" else own_parameters(model)
        with learning(model, parts, own_statistics=recipe.own_statistics):
            start.load_into(model)
            trainer = Trainer(model, samples, options, self._scorer.normalisation)
            try:
                for report in trainer:
                    step, macs = report.step, report.macs
                    if step not in looks:
                        continue
                    weights = weights_of(model)
                    now, cost = self._look(weights, held_out, watch)
                    weights.load_into(self._scorer.lend())
                    watch.add(cost if recipe.charge_looks else 0.0)
                    if kept is not None and now > max([live, *(earlier for _, earlier in curve)]):
                        kept = Trained(weights, RoundLog(step, watch.seconds, macs))
                    curve.append((step, now))
                    if kept is None and len(curve) == 1:
                        stopped = give_up(live=live, start=live, now=now, noise=0.0) or ""
                    if stopped:
                        break
            except TrainingDiverged as error:
                stopped = str(error)
        if kept is None:
            kept = Trained(weights_of(model), RoundLog(step, watch.seconds, macs))
        log = msgspec.structs.replace(kept.log, curve=tuple(curve), stopped=stopped, peak_bytes=peak_bytes())
        return Trained(kept.weights, log)

    def _look(
        self, weights: Weights, held_out: Sequence[TrainingSample], watch: _Stopwatch
    ) -> tuple[float, float]:
        """MIoU on the held-out frames, and the CPU seconds that it took when it was inferred.

        The stopwatch stands meanwhile: scores may come from a file. Other weights are left in the model.
        """
        with watch.paused():
            scores = self._scorer.scores(weights, held_out)
        return miou(total(scores, self._scorer.classes)), sum(score.cpu_seconds for score in scores)


def _looks(recipe: Recipe) -> frozenset[int]:
    """Return the steps after which to evaluate on the held-out frames."""
    if recipe.look_every:
        return frozenset(range(recipe.look_every, recipe.steps + 1, recipe.look_every))
    return frozenset({*evaluation_steps(recipe.steps), recipe.steps})


class _Stopwatch:
    """CPU seconds since it was made, without the pauses."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    def add(self, seconds: float) -> None:
        self._began -= seconds

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        began = self._clock()
        yield
        self._began += self._clock() - began


def _name(sample: TrainingSample) -> tuple[str, str, float, float]:
    return sample.image.name, f"{sample.label.parent.name}/{sample.label.name}", sample.weight, sample.scale
