"""How a stage's samples are chosen from the training images, by name.

``all`` takes every image, ``every:N`` each N-th image in order of time, ``service`` the images that the
service would keep, at its scales and weights. ``draw:WHICH/SCALE/WEIGHT:NUMBER`` combines three independent
choices; draws of different numbers keep different images at the same cost.

- WHICH images: ``random``, ``random-condition`` (the same share of each condition), ``complexity`` (simple
  images of each condition are dropped more often), ``least-loss`` (the images of least loss are dropped),
  ``infobatch`` (some of those below the mean loss are dropped at random: Qin et al., arXiv 2303.04947).
- SCALE: ``random`` or ``complexity`` (by rank within a condition) in the same shares, ``one`` scale of the
  same mean cost for all, ``full``.
- WEIGHT: ``inverse`` of the probability to be kept, or ``one``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dance_ondevice.complexity import grey_reduction, make_indicator
from dance_ondevice.images.brightness import luma_and_contrast
from dance_ondevice.images.codec import decode_grey
from dance_ondevice.images.headers import probe
from dance_ondevice.policies.stream.data_slimming import SlimmingRules
from dance_ondevice.policies.stream.slimming_set import decide_all
from dance_ondevice.policies.stream.stream_state import FrameFigures
from dance_ondevice.training.batches import TrainingSample

if TYPE_CHECKING:
    from torch import nn

#: Scale at which losses are evaluated for the drop decision; an image then costs a quarter.
_LOOK_SCALE = 0.5


@dataclass(frozen=True)
class Choices:
    """Chooses among the images of one training.

    Attributes:
        train: All training images, at weight and scale 1.
        rules: Rules of data slimming.
        losses: Gives the model's loss on each of some samples.
    """

    train: tuple[TrainingSample, ...]
    rules: SlimmingRules
    losses: Callable[[nn.Module, Sequence[TrainingSample]], list[float]]

    def __call__(self, choice: str, model: nn.Module) -> Sequence[TrainingSample]:
        """Return the samples of a choice, named as the module describes.

        Raises:
            ValueError: There is no such choice.
        """
        name, _, argument = choice.partition(":")
        if name == "all":
            return self.train
        if name == "every":
            return self.train[:: int(argument)]
        if name == "service":
            return self._decided(self.rules)
        if name == "draw":
            what, _, number = argument.partition(":")
            which, scale, weight = what.split("/")
            rules = replace(
                self.rules,
                seed=1000 * self.rules.seed + int(number),
                choice="complexity" if which == "complexity" else "random",
                loss_weighting=weight == "inverse",
            )
            return self._scaled(scale, self._kept(which, model, rules), rules)
        raise ValueError(f"unknown choice of samples {choice!r}")

    @cached_property
    def _figures(self) -> list[FrameFigures]:
        return figures(self.train, self.rules.scales)

    @property
    def _going(self) -> int:
        return round(self.rules.drop_fraction * len(self.train))

    def _decided(self, rules: SlimmingRules) -> list[TrainingSample]:
        decisions = decide_all(rules, self._figures)
        return [
            replace(sample, scale=decision.scale, weight=decision.weight)
            for sample, decision in zip(self.train, decisions, strict=True)
            if decision.keep
        ]

    def _kept(self, which: str, model: nn.Module, rules: SlimmingRules) -> list[TrainingSample]:
        """The images that are kept, with their weights, at the scales of their complexity."""
        decided = decide_all(rules, self._figures)
        scaled = [replace(s, scale=d.scale) for s, d in zip(self.train, decided, strict=True)]
        if which in ("complexity", "random-condition"):
            return [replace(s, weight=d.weight) for s, d in zip(scaled, decided, strict=True) if d.keep]
        dice = np.random.default_rng((rules.seed, 3))
        if which == "random":
            return [scaled[index] for index in sorted(dice.permutation(len(scaled))[self._going :])]
        if which not in ("least-loss", "infobatch"):
            raise ValueError(f"unknown choice of samples 'draw:{which}'")
        losses = self.losses(model, [replace(sample, scale=_LOOK_SCALE) for sample in self.train])
        if which == "least-loss":
            return [scaled[index] for index in sorted(np.argsort(losses, kind="stable")[self._going :])]
        mean = sum(losses) / len(losses)
        below = [index for index, loss in enumerate(losses) if loss < mean]
        gone = set(dice.permutation(below)[: self._going].tolist())
        # Each remaining image below the mean also counts for the dropped ones.
        left = len(below) - len(gone)
        weight = len(below) / left if left and rules.loss_weighting else 1.0
        weights = dict.fromkeys(below, weight)
        return [
            replace(sample, weight=weights.get(index, 1.0))
            for index, sample in enumerate(scaled)
            if index not in gone
        ]

    def _scaled(
        self, scale: str, kept: Sequence[TrainingSample], rules: SlimmingRules
    ) -> list[TrainingSample]:
        if scale == "full":
            return [replace(sample, scale=1.0) for sample in kept]
        if scale == "one":
            same = (sum(each**2 for each in rules.scales) / len(rules.scales)) ** 0.5
            return [replace(sample, scale=same) for sample in kept]
        if scale == "complexity":
            return list(kept)
        if scale != "random":
            raise ValueError(f"unknown scale of samples {scale!r}")
        places = np.random.default_rng((rules.seed, 4)).permutation(len(kept))
        return [
            replace(sample, scale=rules.scales[int(place) % len(rules.scales)])
            for sample, place in zip(kept, places, strict=True)
        ]


def figures(samples: Sequence[TrainingSample], scales: Sequence[float]) -> list[FrameFigures]:
    """Figures that ingest computes for each image with the default indicator, in the order of the images."""
    indicator = make_indicator("detail_loss", scales)
    found = []
    for sample in samples:
        data = sample.image.read_bytes()
        info = probe(data)
        grey = decode_grey(data, grey_reduction(info.height, info.width))
        luma, contrast = luma_and_contrast(grey)
        found.append(FrameFigures(score=indicator.measure(grey).score, luma=luma, contrast=contrast))
    return found


def complexities(samples: Sequence[TrainingSample], scales: Sequence[float]) -> list[float]:
    """Score of each image by the default indicator, on the same grey decode as in ingest."""
    return [frame.score for frame in figures(samples, scales)]
