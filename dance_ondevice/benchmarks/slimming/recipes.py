"""What each variant does: its stages, how it chooses samples, and at which scale it infers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from dance_ondevice.cooptimisation import Stage

Setting = Literal["scratch", "finetune"]
Protocol = Literal["full", "quick"]

#: Epochs of the dense baseline. On CamVid its mIoU is on its plateau by the end of the full protocol.
EPOCHS: Mapping[tuple[Protocol, Setting], int] = {
    ("full", "scratch"): 24,
    ("full", "finetune"): 24,
    ("quick", "scratch"): 4,
    ("quick", "finetune"): 4,
}
#: Highest learning rate.
LEARNING_RATES: Mapping[Setting, float] = {"scratch": 5e-3, "finetune": 1e-3}
#: Share of the unslimmed MACs that network slimming ends at: what the target for inference asks for.
TARGET_MACS = 0.42
#: Steps that the way there is taken in, and the shares of the epochs before it and on it.
_STEPS = 5
_BEFORE, _ON_THE_WAY = 0.4, 0.2


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One variant.

    Attributes:
        stages: of its training.
        inference_scales: what an image is inferred at: one scale for all, or by complexity among several.
        mean_scale: of the images that the model will see; multi-scale branches are slimmed by it.
        batch_size: images a step.
        rate: factor of the setting's learning rate.
        about: what it is, for the report.
    """

    stages: tuple[Stage, ...]
    inference_scales: tuple[float, ...] = (1.0,)
    mean_scale: float = 1.0
    batch_size: int = 8
    rate: float = 1.0
    about: str


def recipe(variant: str, protocol: Protocol, setting: Setting) -> Recipe:
    """The recipe of a variant.

    Raises:
        ValueError: there is no such variant; names those there are.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; choose among {', '.join(VARIANTS)}")
    return VARIANTS[variant](EPOCHS[protocol, setting])


def _dense(epochs: int) -> Recipe:
    return Recipe(stages=(Stage(epochs=epochs),), about="all images, full size, all channels")


def _data(epochs: int) -> Recipe:
    return Recipe(
        stages=(Stage(epochs=epochs, choice="complexity"),),
        about="DANCE's data slimming: the least complex 30 % dropped, the rest at three scales and weights",
    )


def _network(epochs: int) -> Recipe:
    return Recipe(stages=_progressive(epochs, "all"), about="DANCE's network slimming: channels go in steps")


def _dance(epochs: int) -> Recipe:
    return Recipe(
        stages=_progressive(epochs, "complexity"),
        mean_scale=0.75,
        about="DANCE: data and network slimming, multi-scale branches slimmed by the mean scale",
    )


def _progressive(epochs: int, choice: str) -> tuple[Stage, ...]:
    """Full width, then in steps down to the target, then the rest at that width."""
    steps = min(_STEPS, max(1, round(epochs * _ON_THE_WAY)))
    each = max(1, round(epochs * _ON_THE_WAY / steps))
    before = max(1, round(epochs * _BEFORE))
    stages = [Stage(epochs=before, choice=choice)]
    for step in range(1, steps):
        fraction = 1 - (1 - TARGET_MACS) * step / steps
        stages.append(Stage(epochs=each, choice=choice, macs_fraction=fraction))
    left = max(1, epochs - sum(stage.epochs for stage in stages))
    return (*stages, Stage(epochs=left, choice=choice, macs_fraction=TARGET_MACS))


VARIANTS: Mapping[str, Callable[[int], Recipe]] = {
    "dense": _dense,
    "data": _data,
    "network": _network,
    "dance": _dance,
}
