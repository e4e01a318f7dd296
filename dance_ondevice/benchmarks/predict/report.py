"""The result of ``bench predict``."""

from __future__ import annotations

from dataclasses import dataclass

#: Of the 99th percentile of the idle board.
TARGET_RATIO = 1.15


@dataclass(frozen=True, kw_only=True)
class EngineTime:
    """One way to make a mask of a decoded image, in turns so that all meet the same board.

    Attributes:
        name: the engine.
        model: ``dense``, or ``slimmed`` (not trained again).
        scale: of the image against the mask.
        threads: of a forward pass.
        ms: by percentile ("50", "99"), wall time of a mask.
        cpu_ms: median CPU time of a mask, all threads.
        cpu_ratio: of that to the dense model in torch as it was trained, at full scale.
        miou: of the masks, against the street's labels.
        miou_exact: of the same engine where every pixel is decided.
        agreement: share of pixels that are the same in both.
    """

    name: str
    model: str
    scale: float
    threads: int
    ms: dict[str, float]
    cpu_ms: float
    cpu_ratio: float
    miou: float
    miou_exact: float
    agreement: float


@dataclass(frozen=True, kw_only=True)
class Served:
    """Frames that a daemon was sent, and the masks that it published.

    Attributes:
        latency_ms: by percentile, from a frame's arrival to its mask, as the daemon publishes it.
        lost: frames without a mask.
        versions: models that made the masks, in their order.
        round_share: share of the masks that were made while a round ran.
    """

    name: str
    sent: int
    masks: int
    lost: int
    latency_ms: dict[str, float]
    versions: list[str]
    round_share: float


@dataclass(frozen=True, kw_only=True)
class PredictReport:
    """Everything that was measured.

    Attributes:
        size: (height, width) of the images.
        engines: what a mask takes; engines only where they are installed.
        idle: masks while nothing else runs, before each round.
        beside_round: masks from the start of a round until its model serves, of all rounds.
        ratio: of the 99th percentiles of these two.
        lost_at_swap: frames of the second without a mask.
        engine: what ran the model in the daemon.
        conv_gflops: what one core can do, as in ``bench ingest``.
        round_outcomes: of the rounds; only "promoted" swaps a model.
    """

    architecture: str
    parameters: int
    size: tuple[int, int]
    fps: float
    engines: list[EngineTime]
    idle: Served
    beside_round: Served
    ratio: float
    on_target: bool
    lost_at_swap: int
    engine: str
    round_outcomes: list[str]
    conv_gflops: float | None
