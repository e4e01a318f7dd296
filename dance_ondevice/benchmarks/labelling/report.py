"""The result of ``bench labelling``."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Arm", "Gain", "LabellingReport"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one way to label came to with one seed.

    Attributes:
        way: ``taps`` in frames that the service asks for, ``random`` for taps in frames at random, or
            ``labelled_frames`` for whole labels of frames that the service asks for.
        amount: Number of taps, or share of the frames such as ``10%``.
        seed: Of training and of the order at random.
        frames: Frames that got a label.
        taps: Taps that were made.
        labelled: Share of these frames' pixels that have a label.
        right: Share of the labelled pixels whose label is true.
        miou: After one round on these labels, in [0, 1].
        cpu_seconds: Of the round and the measurement.
    """

    way: str
    amount: str
    seed: int
    frames: int
    taps: int
    labelled: float
    right: float
    miou: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Gain:
    """mIoU over the model before, in [-1, 1], means over the seeds, by the number of taps or the share."""

    taps: dict[str, float]
    random: dict[str, float]
    labelled_frames: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class LabellingReport:
    """Everything that was measured.

    Attributes:
        stream: Name of the stream.
        frames_of: What its frames are.
        base: Name of the base model's architecture and version.
        seed: The first of ``seeds``.
        seeds: Seeds that the gains are means over.
        frames: Frames that could be labelled.
        steps: Optimiser steps of each round.
        batch_size: Images of a step at most.
        taps_a_frame: Taps of the simulated person in one frame at most.
        confirms: Whether the last of them is "all else is right".
        unlabelled: Weight of the live model's own answers where a label says nothing; 0 for none.
        interpolation: How far a round on taps goes from the live weights to the trained ones; rounds on whole
            labels go all of the way.
        frozen: mIoU of the model before.
        gain: Means over the seeds.
        arms: Each round.
    """

    stream: str
    frames_of: str
    base: str
    seed: int
    seeds: list[int]
    frames: int
    steps: int
    batch_size: int
    taps_a_frame: int
    confirms: bool
    frozen: float
    gain: Gain
    unlabelled: float = 0.0
    interpolation: float = 1.0
    arms: list[Arm] = field(default_factory=list)
