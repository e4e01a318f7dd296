"""The result of ``bench step``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """CPU time of a training step.

    Attributes:
        ms_an_image: CPU milliseconds for each image, the median over the epochs.
        seconds_a_tmac: CPU seconds for 10^12 multiply-accumulates.
    """

    ms_an_image: float
    seconds_a_tmac: float


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Everything that one call measured.

    Attributes:
        architecture: Name of the network.
        precision: Precision of its convolutions, "fp32" or "bf16".
        against: Description of the other build.
        images: Number of training images.
        epochs: Number of timed epochs; one more comes before them.
        here: Configuration -> cost in this build.
        there: Configuration -> cost in the other build.
        ratios: Configuration -> milliseconds an image here divided by those there; larger batches are
            compared with the other build's batches of 4.
        macs_ratio: Configuration -> seconds a MAC here divided by those of "dense" here.
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
