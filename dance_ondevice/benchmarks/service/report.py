"""The result of ``bench service``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Used:
    """What one build used for one stream of frames.

    Attributes:
        sent: Frames.
        kept: Frames that it stored.
        masks: Masks that it published.
        repeated: Masks among them that it had published before.
        cpu_seconds: CPU seconds of the daemon's own process, all threads.
        children_cpu_seconds: CPU seconds of its children that have ended.
        joules: Joules above idle by its own account; None where it gave none.
        resident_mb: Median of the daemon's resident memory.
        peak_mb: The highest that it had since its start.
        latency_ms: By percentile ("50", "99"), from a frame's arrival to its mask, as the daemon says.
        miou: Of the masks by the true labels; None where no masks came.
    """

    sent: int
    kept: int
    masks: int
    repeated: int
    cpu_seconds: float
    children_cpu_seconds: float
    joules: float | None
    resident_mb: float
    peak_mb: float
    latency_ms: dict[str, float]
    miou: float | None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A camera that both builds served at the same time, frame after frame in turn.

    Attributes:
        name: What the camera sees.
        fps: Frames a second.
        seconds: Length of the stream.
        here: What this build used.
        there: What the other build used; None without one.
        cpu_ratio: CPU seconds here by those there, ended children included.
        miou_delta: mIoU of the masks here less that of those there; None without one of them.
    """

    name: str
    fps: float
    seconds: float
    here: Used
    there: Used | None
    cpu_ratio: float | None
    miou_delta: float | None


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Ingest at full speed.

    Attributes:
        frames_per_second: Median over the turns.
        cpu_ms: CPU milliseconds for a frame, kept or not; over all turns.
        kept_share: Share of the frames that was kept.
        scale_shares: By scale, the share of the kept frames that was stored at it; it decides what they cost.
    """

    frames_per_second: float
    cpu_ms: float
    kept_share: float
    scale_shares: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Race:
    """Ingest of one kind in turns: a loop that only receives and decodes grey, then each build.

    Attributes:
        name: How frames are stored.
        loop: The loop; it keeps none.
        here: This build.
        there: The other build; None without one.
        of_loop: Rate of this build by that of the loop, the median over the turns.
        of_loop_there: The same of the other build.
        cpu_ratio: CPU milliseconds for a frame here by those there, kept or not; the median over the turns.
        kept_cpu_ratio: The same for a kept frame: the CPU time of all frames, by those that were kept.
    """

    name: str
    loop: Pace
    here: Pace
    there: Pace | None
    of_loop: float
    of_loop_there: float | None
    cpu_ratio: float | None
    kept_cpu_ratio: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """Ingest at full speed, inference off; empty where it was left out.

    Attributes:
        of_bare_loop: Rate of this build by that of the loop, stored by ``default`` and as they come
            (``native``).
        kept_cpu_ratio: CPU time of a kept frame here by that there, by the scale that it is stored at; empty
            without another build.
        races: Each kind of storing in full.
    """

    of_bare_loop: dict[str, float] = field(default_factory=dict)
    kept_cpu_ratio: dict[str, float] = field(default_factory=dict)
    races: list[Race] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Resident:
    """Resident memory of this build's daemon while it serves the driving camera, in bytes."""

    median: int
    highest: int


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Starts with inference on, in turns.

    Attributes:
        seconds: Median wall seconds from the start of the process to READY, as systemd gets it.
        cpu_seconds: Median CPU seconds until then, children that have ended included.
    """

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class ServiceReport:
    """Everything that was measured.

    Attributes:
        here: Revision of this build.
        against: Revision of the other build; "" without one.
        frame: (height, width) of the frames.
        model: Architecture and MACs of the model, as words.
        scale: Scale that frames are segmented at.
        meter: The daemon's meter and its method.
        scenarios: Cameras with inference on and no round: ``camera`` drives, ``standing`` stands at a street
            that is busy for a part of the time, ``thin`` at one with little traffic.
        predict: CPU time of a mask by the slimmed model on one thread, by that of the dense one in torch as
            it was trained: by engine, then by scale of the image ("0.75", "1.0").
        rss_bytes: Memory while ``camera`` is served; None without it.
        ready_seconds: Median wall seconds until this build is READY.
        ready_here: Starts of this build.
        ready_there: Starts of the other build.
        ingest: Ingest at full speed, inference off.
        p99_beside_round: 99th percentile of a mask's latency beside a round of this build, by that of the
            idle board; None without rounds.
    """

    here: str
    against: str
    frame: tuple[int, int]
    model: str
    scale: float
    meter: str
    scenarios: dict[str, Scene]
    predict: dict[str, dict[str, float]]
    rss_bytes: Resident | None
    ready_seconds: float | None
    ready_here: Ready | None
    ready_there: Ready | None
    ingest: Ingest
    p99_beside_round: float | None
