"""The result of ``bench fleet``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Arm", "Board", "FleetReport", "Run"]


@dataclass(frozen=True, kw_only=True)
class Board:
    """One board at the end of one run.

    Attributes:
        name: Of the board.
        macs_fraction: Share of the root's MACs that its model has left.
        own: mIoU on its own scene, fraction of 1.
        union: mIoU on all boards' scenes, their counts summed.
        unseen: mIoU on the other boards' scenes.
        taken: Fleet versions that its gate took.
        refused: Fleet versions that its gate refused.
        sent: Bytes of its offers, on average.
        received: Bytes of a fleet version for it, on average.
        macs: Multiply-accumulates of training, estimation and judging.
        fleet_macs: Of these, what the fleet costs on top of learning alone.
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


@dataclass(frozen=True, kw_only=True)
class Run:
    """All boards of one arm, one seed."""

    seed: int
    boards: list[Board]
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to learn.

    Attributes:
        name: "alone", "fleet", "fleet, own late layers" or "all data".
        about: What it is.
        runs: One of each seed.
    """

    name: str
    about: str
    runs: list[Run]


@dataclass(frozen=True, kw_only=True)
class FleetReport:
    """Everything that was measured.

    Attributes:
        fleet: Name of the data set.
        architecture: Of the root.
        size: (height, width) of the images.
        rounds: That each board trains.
        steps: Optimiser steps of each round.
        batch_size: Images of each step.
        root_steps: Optimiser steps of the root.
        late_layers: Modules that stay a board's own in that arm.
        arms: What was compared.
    """

    fleet: str
    architecture: str
    size: tuple[int, int]
    rounds: int
    steps: int
    batch_size: int
    root_steps: int
    late_layers: list[str]
    arms: list[Arm]
