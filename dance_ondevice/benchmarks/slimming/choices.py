"""How a stage's samples are chosen from the training images, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dance_ondevice.complexity import grey_reduction, make_indicator
from dance_ondevice.images.codec import decode_grey
from dance_ondevice.images.headers import probe
from dance_ondevice.policies.stream.data_slimming import SlimmingRules, decide_all
from dance_ondevice.training.batches import TrainingSample

if TYPE_CHECKING:
    from torch import nn

#: Whose loss is looked at when the drop decision is refreshed: images at this scale cost a quarter.
_LOOK_SCALE = 0.5


@dataclass(frozen=True)
class Choices:
    """Chooses among the images of one training.

    Attributes:
        train: every training image, at weight and scale 1.
        rules: of data slimming.
        losses: the model's loss on each of some samples.
    """

    train: tuple[TrainingSample, ...]
    rules: SlimmingRules
    losses: Callable[[nn.Module, Sequence[TrainingSample]], list[float]]

    def __call__(self, choice: str, model: nn.Module) -> Sequence[TrainingSample]:
        """The samples of a choice.

        ``all``: everything. ``complexity``: DANCE's, by the complexity of the image. ``loss``: everything but
        the images that the model now loses least on. ``every:N``: each N-th image in order of time.

        Raises:
            ValueError: there is no such choice.
        """
        name, _, argument = choice.partition(":")
        if name == "all":
            return self.train
        if name == "every":
            return self.train[:: int(argument)]
        if name == "complexity":
            return self._slimmed(complexities(self.train, self.rules.scales), self.rules)
        if name == "loss":
            small = [replace(sample, scale=_LOOK_SCALE) for sample in self.train]
            return self._slimmed(self.losses(model, small), replace(self.rules, scales=(1.0,)))
        raise ValueError(f"unknown choice of samples {choice!r}")

    def _slimmed(self, scores: Sequence[float], rules: SlimmingRules) -> list[TrainingSample]:
        decisions = decide_all(rules, scores)
        return [
            replace(sample, scale=decision.scale, weight=decision.weight)
            for sample, decision in zip(self.train, decisions, strict=True)
            if decision.keep
        ]


def complexities(samples: Sequence[TrainingSample], scales: Sequence[float]) -> list[float]:
    """The default indicator's score of each image, on the grey decode that ingest makes."""
    indicator = make_indicator("detail_loss", scales)
    scores = []
    for sample in samples:
        data = sample.image.read_bytes()
        info = probe(data)
        scores.append(indicator.measure(decode_grey(data, grey_reduction(info.height, info.width))).score)
    return scores
