"""The result of ``bench predict``."""

from __future__ import annotations

from dataclasses import dataclass

#: Highest 99th percentile beside a round, as a multiple of that of the idle board.
TARGET_RATIO = 1.15


@dataclass(frozen=True, kw_only=True)
class EngineTime:
    """One way to make a mask of a decoded image; the ways take turns so that load affects all of them alike.

    Attributes:
        name: Name of the engine.
        model: ``dense``, or ``slimmed`` (not trained again).
        scale: Scale of the image against the mask.
        threads: Threads of a forward pass.
        ms: Wall milliseconds of a mask by percentile ("50", "99", "100").
        cpu_ms: Median CPU milliseconds of a mask, all threads together.
        cpu_ratio: Ratio of that to the dense model in torch as it was trained, at full scale.
        miou: mIoU of the masks against the street's labels.
        miou_exact: mIoU of the same engine where every pixel is decided.
        agreement: Share of pixels that are the same in both.
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
        engines: What a mask takes by engine; only engines that are installed.
        idle: Masks while nothing else runs, before each round; this and what follows is None without rounds.
        beside_round: Masks from the start of a round until its model is live, over all rounds.
        beside_neighbour: Masks while a foreign program of lowest priority keeps the other processors busy;
            None also in results of before it was measured.
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
    idle: Served | None
    beside_round: Served | None
    ratio: float | None
    on_target: bool | None
    lost_at_swap: int | None
    engine: str | None
    round_outcomes: list[str]
    conv_gflops: float | None
    beside_neighbour: Served | None = None
