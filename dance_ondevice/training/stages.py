"""Parts of a co-optimised training: its stages, the slimming of branches, and reports of epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dance_ondevice.slimming.importance import Importance


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of a training, in which only the weights change.

    Attributes:
        epochs: Passes over the stage's samples.
        macs_fraction: Fraction of the MACs before any slimming that the model is slimmed to when the stage
            begins.
        window: Side of a batch's images as a share of the full side; 0.5 has a quarter of the pixels.
        zoom: Smallest and largest random magnification, 1 = the original pixels. With a window of 0.5 a zoom
            of 0.5 shows the whole frame at half its size, a zoom of 1 a quarter of the frame.
        choice: Name of the way to choose samples, which the caller defines.
        frozen: Names of the submodules whose weights and statistics stay unchanged.
        fixed_statistics: True leaves the statistics of all batch norms unchanged: each batch is normalised by
            them, as in inference.
        importance: Importance by which channels are removed when the stage begins; Taylor importance is taken
            from batches of the stage before.
        sparsity: Strength that pulls normalisation scales towards zero, so that the next stage's slimming
            finds channels of little weight; 0 for none.
    """

    epochs: int
    macs_fraction: float = 1.0
    window: float = 1.0
    zoom: tuple[float, float] = (0.75, 1.75)
    choice: str = "all"
    frozen: tuple[str, ...] = ()
    fixed_statistics: bool = False
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
    """Slimming of the multi-scale branches in a stage.

    Attributes:
        shares: Share by branch, relative to the rest of the model, for ``slim``.
        remove: Branches that are removed whole.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """Report of one pass over a stage's samples.

    Attributes:
        epoch: Number of the epoch, counted over all stages from 1.
        epochs: Number of epochs of all stages.
        stage: Number of the stage, from 0.
        loss: Mean loss over the epoch's steps; None if none had a labelled pixel.
        samples_seen: Images trained on so far, repetitions counted.
        macs: Multiply-accumulates of the training so far.
        macs_fraction: Fraction of the unslimmed MACs that the model has now.
    """

    epoch: int
    epochs: int
    stage: int
    loss: float | None
    samples_seen: int
    macs: int
    macs_fraction: float
