"""What ``bench step`` measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What a step costs.

    Attributes:
        ms_an_image: CPU milliseconds, the median over the epochs.
        seconds_a_tmac: CPU seconds for 10^12 multiply-accumulates.
    """

    ms_an_image: float
    seconds_a_tmac: float


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Everything that one call measured.

    Attributes:
        architecture: of the model.
        precision: of its convolutions.
        against: what the other build is, in words.
        images: that were trained on.
        epochs: that were timed, after one that was not.
        here: configuration -> cost in this build.
        there: configuration -> cost in the other one.
        ratios: configuration -> milliseconds an image here by those there; larger batches by the other
            build's of 4.
        macs_ratio: configuration -> seconds a MAC here by those of dense here.
    """

    architecture: str
    precision: str
    against: str
    images: int
    epochs: int
    here: dict[str, StepCost]
    there: dict[str, StepCost]
    ratios: dict[str, float]
    macs_ratio: dict[str, float]
