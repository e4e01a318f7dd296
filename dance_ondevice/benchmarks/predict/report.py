"""The result of ``bench predict``."""

from __future__ import annotations

from dataclasses import dataclass

#: Highest 99th percentile beside a round, as a multiple of that of the idle board.
TARGET_RATIO = 1.15


@dataclass(frozen=True, kw_only=True)
class EngineTime:
    """Time of one engine, one image at a time; engines take turns so that load affects all of them alike.

    Attributes:
        name: Name of the engine.
        threads: Threads of a forward pass.
        ms: Wall milliseconds of a forward pass by percentile ("50", "99", "100").
        cpu_ms: Mean CPU milliseconds of a forward pass, all threads together.
        max_difference: Largest absolute difference of a logit from those of the model as trained.
    """

    name: str
    threads: int
    ms: dict[str, float]
    cpu_ms: float
    max_difference: float


@dataclass(frozen=True, kw_only=True)
class Served:
    """Frames that a daemon was sent, and the masks that it published.

    Attributes:
        name: Description of the load on the board.
        sent: Number of frames sent.
        masks: Number of masks received.
        lost: Number of frames without a mask.
        latency_ms: Milliseconds from a frame's arrival to its mask, as published, by percentile.
        versions: Model versions that made the masks, in the order of their first mask.
        round_share: Share of the masks that were made while a round ran.
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
        architecture: Name of the network.
        parameters: Number of its parameters.
        size: (height, width) of the images.
        fps: Frames a second that the daemon was sent.
        engines: Times of the same weights by engine; onnxruntime only where it is installed.
        of_onnxruntime: Time of the engine that the daemon would choose divided by onnxruntime's, with the
            first number of threads; None without onnxruntime.
        idle: Masks while nothing else runs, before each round.
        beside_round: Masks from the start of a round until its model is live, over all rounds.
        ratio: 99th percentile of ``beside_round`` divided by that of ``idle``.
        on_target: Whether the ratio is within ``TARGET_RATIO`` and no frame was lost.
        lost_at_swap: Frames of ``beside_round`` without a mask.
        engine: Engine that ran the model in the daemon.
        round_outcomes: Outcomes of the rounds; only "promoted" swaps the live model.
        conv_gflops: Speed of one core, as in ``bench ingest``.
    """

    architecture: str
    parameters: int
    size: tuple[int, int]
    fps: float
    engines: list[EngineTime]
    of_onnxruntime: float | None
    idle: Served
    beside_round: Served
    ratio: float
    on_target: bool
    lost_at_swap: int
    engine: str
    round_outcomes: list[str]
    conv_gflops: float | None
