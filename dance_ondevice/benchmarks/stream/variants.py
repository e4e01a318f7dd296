"""The variants that are compared: what each learns from, how, and with which means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dance_ondevice.benchmarks.stream.rounds import Recipe
from dance_ondevice.conditions.learning import INTERPOLATION

__all__ = ["VARIANTS", "Labels", "Variant"]

Labels = Literal["all", "tenth", "three", "none", "teacher"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to live with a stream.

    Attributes:
        name: key in the report.
        words: what it does, for the page.
        labels: how many of a segment's frames get labels: "all", a "tenth" (at least one), "three", "none";
            or those of a "teacher" model instead.
        conditions: keeps weights of its own for each light, and chooses among them by the frame.
        re_estimate: measures batch norm's statistics again on unlabelled frames of a new light.
        recipe: how its rounds train; None: it does not.
        gate: candidates must beat the live model on held-out frames, and are on probation afterwards.
        dense: trains at full size, which is dear: it may get fewer seeds.
        joint: not on the stream: trained on the base domain and all of the stream's frames together.
        pretrained: another model, trained on other data, that is never touched either.
        interpolation: share of the way from the live weights to the trained ones that the candidate goes.
        teacher_judges: a teacher's labels are held out as well, and candidates are judged by them.
    """

    name: str
    words: str
    labels: Labels = "none"
    conditions: bool = False
    re_estimate: bool = False
    recipe: Recipe | None = None
    gate: bool = False
    dense: bool = False
    joint: bool = False
    pretrained: bool = False
    interpolation: float = 1.0
    teacher_judges: bool = False

    @property
    def random(self) -> bool:
        """Whether anything in it depends on the seed."""
        return self.recipe is not None or self.joint


#: Dense fine-tuning as it is usually done: whole frames, all weights, batch norm on the batches.
_DENSE = Recipe(steps=100, learning_rate=1e-3)
#: Ours: half-size frames, so a quarter of the cost, and only what a condition may have for itself, over
#: statistics of its own. Chosen on blocks of 0001TP's first half, see the definitions.
_OURS = Recipe(
    part="own",
    steps=40,
    learning_rate=2e-3,
    scale=0.5,
    zoom=(1.0, 1.6),
    batch_size=4,
    own_statistics=True,
)


def _ours(name: str, words: str, labels: Labels) -> Variant:
    return Variant(
        name=name,
        words=words,
        labels=labels,
        conditions=True,
        re_estimate=True,
        recipe=None if labels == "none" else _OURS,
        gate=True,
        interpolation=INTERPOLATION,
    )


VARIANTS: tuple[Variant, ...] = (
    Variant(name="frozen", words="the base model, never touched"),
    Variant(
        name="pretrained_frozen",
        words="the model of --pretrained, never touched",
        pretrained=True,
    ),
    Variant(
        name="naive",
        words="dense fine-tuning on each segment's frames, no rehearsal, to its best on held-out frames",
        labels="all",
        recipe=replace(_DENSE, look_every=20, charge_looks=False),
        dense=True,
    ),
    Variant(
        name="periodic",
        words="dense fine-tuning at fixed times, one old frame rehearsed for each new one",
        labels="all",
        recipe=replace(_DENSE, steps=60, rehearsal=1.0),
        dense=True,
    ),
    Variant(
        name="bn",
        words="batch norm's statistics estimated again every 16 frames, one set for all lights, no labels",
        re_estimate=True,
    ),
    _ours("dance_none", "conditions with statistics of their own, no labels", "none"),
    _ours(
        "dance_teacher",
        "DANCE, a teacher's labels alone, which may teach and never judge",
        "teacher",
    ),
    replace(
        _ours("dance_teacher_judges", "DANCE, a teacher's labels alone, which teach and judge", "teacher"),
        teacher_judges=True,
    ),
    _ours("dance_three", "DANCE, 3 labelled frames", "three"),
    _ours("dance_tenth", "DANCE, 10 % of the labels", "tenth"),
    _ours("dance", "DANCE, all labels", "all"),
    Variant(
        name="joint",
        words="trained offline on the base domain and all frames of new lights: an upper bound",
        labels="all",
        dense=True,
        joint=True,
    ),
)
