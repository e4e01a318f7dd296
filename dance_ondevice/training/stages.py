"""What a co-optimised training consists of: its stages, what slimming does to branches, what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dance_ondevice.slimming.importance import Importance


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of a training in which nothing changes but the weights.

    Attributes:
        epochs: passes over the stage's samples.
        macs_fraction: of the MACs before any slimming; the model is slimmed to it as the stage begins.
        window: side of what a batch shows, as a share of the full side; a quarter of the pixels at 0.5.
        zoom: smallest and largest random magnification, 1 = the pixels as they were filmed. With a window
            of 0.5 a zoom of 0.5 shows the whole frame at half its size, a zoom of 1 a quarter of the frame.
        choice: name of how samples are chosen; what it means is the caller's.
        frozen: names of the submodules whose weights stay as they are.
        importance: what decides which channels go as the stage begins; Taylor's comes from batches of the
            stage before.
        sparsity: strength that presses normalisation scales towards zero, so that the next stage's slimming
            finds channels of little weight; 0 for none.
    """

    epochs: int
    macs_fraction: float = 1.0
    window: float = 1.0
    zoom: tuple[float, float] = (0.75, 1.75)
    choice: str = "all"
    frozen: tuple[str, ...] = ()
    importance: Importance = "bn_scale"
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}; it must be 1 or more")
        if not 0 < self.macs_fraction <= 1:
            raise ValueError(f"macs_fraction is {self.macs_fraction}; it must be above 0 and at most 1")
        if not 0 < self.window <= 1:
            raise ValueError(f"window is {self.window}; it must be above 0 and at most 1")
        if self.sparsity < 0:
            raise ValueError(f"sparsity is {self.sparsity}; it must be 0 or more")


@dataclass(frozen=True)
class BranchPlan:
    """How a stage's slimming treats multi-scale branches.

    Attributes:
        shares: branch -> how much it is slimmed relative to the rest, as ``slim`` takes it.
        remove: branches that go whole.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """One pass over a stage's samples.

    Attributes:
        epoch: counted over all stages, from 1.
        epochs: of all stages.
        stage: from 0.
        loss: mean over the epoch's steps; None when none had a labelled pixel.
        samples_seen: images trained on so far, repetitions counted.
        macs: multiply-accumulates of the training so far.
        macs_fraction: of the model now.
    """

    epoch: int
    epochs: int
    stage: int
    loss: float | None
    samples_seen: int
    macs: int
    macs_fraction: float
