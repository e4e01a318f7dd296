"""The result of ``bench fleet``."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean

__all__ = ["Board", "FleetReport", "Judgement", "Run", "Variant", "variant"]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a board's gate made of a published version.

    Attributes:
        version: Its number.
        share: How far the board would have gone from its own values to the version's; results of old have
            all of the way alone.
        taken: Whether the board took it.
        gate_before: mIoU of the board's live model on its gate.
        gate_after: That of the version there, as far as the board would have gone.
        own_before: mIoU of the live model on the board's frames that nothing is decided by.
        own_after: That of the version there.
    """

    version: int
    taken: bool
    gate_before: float
    gate_after: float
    own_before: float
    own_after: float
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Board:
    """One board at the end of one run.

    Attributes:
        name: Of the board.
        macs_fraction: Share of the root's MACs that its model has left.
        own: mIoU on its own scene, fraction of 1.
        union: mIoU on all boards' scenes, their counts summed.
        unseen: mIoU on the other boards' scenes.
        taken: Fleet versions that its gate took, in whole or in part.
        refused: Fleet versions that its gate refused.
        sent: Bytes of its offers, on average.
        received: Bytes of a fleet version for it, on average.
        macs: Multiply-accumulates of training, estimation and judging.
        fleet_macs: Of these, what the fleet costs on top of learning alone.
        apart: Whether it is in no mean: its labels were wrong, or it took no part.
        judgements: What its gate made of each published version.
    """

    name: str
    macs_fraction: float
    own: float
    union: float
    unseen: float
    taken: int = 0
    refused: int = 0
    sent: float = 0.0
    received: float = 0.0
    macs: int = 0
    fleet_macs: int = 0
    apart: bool = False
    judgements: list[Judgement] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Run:
    """All boards of one variant, one seed."""

    seed: int
    boards: list[Board]
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to learn; figures are means over the seeds and over the boards that are not apart.

    Attributes:
        about: What it is.
        own: mIoU of each board on its own scene, fraction of 1.
        union: mIoU on all boards' scenes.
        unseen: mIoU on the other boards' scenes.
        joules: That a board spends, modelled from its multiply-accumulates.
        bytes: Of an exchange, an offer and a version; 0 where nothing is exchanged.
        runs: One of each seed.
    """

    about: str
    own: list[float]
    union: float
    unseen: float
    joules: float
    bytes: float
    runs: list[Run]


@dataclass(frozen=True, kw_only=True)
class FleetReport:
    """Everything that was measured.

    Attributes:
        fleet: Name of the data set.
        boards: Number of boards.
        seed: The first of the seeds.
        architecture: Of the root.
        size: (height, width) of the images.
        rounds: That each board trains.
        steps: Optimiser steps of each round.
        batch_size: Images of each step.
        root_steps: Optimiser steps of the root.
        late_layers: Modules that stay a board's own in that variant.
        macs_per_second: Of the modelled board while it trains.
        watts: Of the modelled board above idle while it trains.
        variants: What was compared, by a name of ``ways.ARMS``; the first is what others are set against.
        max_own_drop: mIoU that a version could cost a board on its own gate; None in results of old.
    """

    fleet: str
    boards: int
    seed: int
    architecture: str
    size: tuple[int, int]
    rounds: int
    steps: int
    batch_size: int
    root_steps: int
    late_layers: list[str]
    macs_per_second: float
    watts: float
    variants: dict[str, Variant]
    max_own_drop: float | None = None


def variant(about: str, runs: list[Run], *, joules_a_mac: float) -> Variant:
    """Sum up the runs of one way to learn.

    Args:
        about: What it is.
        runs: One of each seed, all of the same boards.
        joules_a_mac: Joules of a multiply-accumulate of training.
    """
    kept = [
        [run.boards[place] for run in runs] for place, each in enumerate(runs[0].boards) if not each.apart
    ]
    every = [board for boards in kept for board in boards]
    return Variant(
        about=about,
        own=[mean(board.own for board in boards) for boards in kept],
        union=mean(board.union for board in every),
        unseen=mean(board.unseen for board in every),
        joules=joules_a_mac * mean(board.macs for board in every),
        bytes=mean(board.sent + board.received for board in every),
        runs=runs,
    )
