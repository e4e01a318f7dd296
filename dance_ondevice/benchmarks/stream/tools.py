"""What every variant's run works with, and the operations on weights that cost CPU seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import safetensors.torch

from dance_ondevice.benchmarks.stream.condition import Figures, figures
from dance_ondevice.benchmarks.stream.rounds import Rounds
from dance_ondevice.benchmarks.stream.scoring import Scorer, total
from dance_ondevice.benchmarks.stream.settings import Settings
from dance_ondevice.benchmarks.stream.streams import Stream
from dance_ondevice.benchmarks.stream.teacher import Teacher
from dance_ondevice.benchmarks.stream.weights import Weights, weights_of
from dance_ondevice.complexity import Indicator
from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions.agreement import estimate_agreeing
from dance_ondevice.conditions.learning import interpolated
from dance_ondevice.images.confusion import miou
from dance_ondevice.training.batches import TrainingSample, read_image

__all__ = ["Tools", "between"]


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a run works with.

    Attributes:
        stream: that is lived.
        base: weights of the base model.
        scorer, rounds: shared by all runs; both keep what they have done.
        indicator: of complexity.
        folder: where estimated statistics are kept.
        cpu_clock: CPU seconds of this process.
        teacher: None where there is none.
        inference_macs: of one frame.
    """

    stream: Stream
    base: Weights
    scorer: Scorer
    rounds: Rounds
    indicator: Indicator
    folder: Path
    settings: Settings
    cpu_clock: Callable[[], float]
    inference_macs: int
    teacher: Teacher | None = None
    _seen: dict[Path, Figures] = field(default_factory=dict)

    def figures(self, sample: TrainingSample) -> Figures:
        """What tells the frame's condition."""
        if sample.image not in self._seen:
            self._seen[sample.image] = figures(sample, self.indicator)
        return self._seen[sample.image]

    def miou(self, weights: Weights, samples: Sequence[TrainingSample]) -> float:
        """Of one set of weights on some frames."""
        return miou(total(self.scorer.scores(weights, samples), self.scorer.classes))

    def re_estimated(self, weights: Weights, samples: Sequence[TrainingSample]) -> tuple[Weights, float]:
        """The weights with batch norm's statistics measured on some frames, blended with their own as far as
        masks agree, and the CPU seconds that it took.
        """
        told = repr((weights.key, [s.image.name for s in samples], "agreeing"))
        folder = self.folder / hashlib.sha256(told.encode()).hexdigest()[:20]
        done = folder / "cost.json"
        if done.exists():
            kept = Weights(safetensors.torch.load_file(folder / "weights.safetensors"))
            return kept, msgspec.json.decode(done.read_bytes(), type=float)
        began = self.cpu_clock()
        model = self.scorer.lend()
        weights.load_into(model)
        found = estimate_agreeing(model.eval(), samples, read_image, self.scorer.normalisation)
        conditions.apply(model, found.statistics)
        cost = self.cpu_clock() - began
        new = weights_of(model)
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(dict(new.tensors), folder / "weights.safetensors")
        done.write_bytes(msgspec.json.encode(cost))
        return new, cost


def between(start: Weights, end: Weights, share: float) -> Weights:
    """Weights on the straight line from ``start`` (0) to ``end`` (1)."""
    return end if share == 1 else Weights(interpolated(start.tensors, end.tensors, share))
