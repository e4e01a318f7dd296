"""Report of the demonstration: the values of ``report.json`` and of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dance_ondevice.demo.shares import EPOCHS
from dance_ondevice.policies.promotion.bootstrap import Bounded


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Frames by what became of them, and those that were stored or dropped by the scale the policy chose.

    Attributes:
        sent: frames that the camera sent.
        kept, dropped, rejected, overflow: as the daemon's metrics count them.
        labelled: kept frames that came with a label.
        kept_by_scale, dropped_by_scale: scale to number of frames.
    """

    sent: int
    kept: int
    dropped: int
    rejected: int
    overflow: int
    labelled: int = 0
    kept_by_scale: Mapping[float, int] = field(default_factory=dict)
    dropped_by_scale: Mapping[float, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of the stream under one condition, and how the models do on fresh frames of it.

    Attributes:
        name: unique name; ``condition`` is what was rendered.
        drifted: whether the first model never saw this condition.
        seconds: how long it was streamed.
        frames: frames sent in it; ``masks`` received in it.
        live_version: version that was live at its end; None when the daemon did not say.
        miou_frozen: mIoU of the first model, a fraction of 1.
        miou_live: of the version live at the phase's end.
        miou_final: of the last live version, so that what was forgotten shows.
        gain, final_gain: what the version live at the phase's end, and the last live one, have over the
            first, with the bounds that other fresh frames would have moved it between.
        macs_change, final_macs_change: their MACs per image against the first's, a fraction (-0.2: a fifth
            fewer).
        rounds: rounds that started in it and ended, some of them after it; ``rounds_wanted`` is how many it
            waited for.
        capped: whether it ended because its time was over, and not by its rounds.
        metrics: sums scraped over HTTP at the phase's end, by metric name.
    """

    name: str
    condition: str
    drifted: bool
    seconds: float
    frames: int
    masks: int
    live_version: str | None
    miou_frozen: float
    miou_live: float
    miou_final: float
    gain: Bounded
    final_gain: Bounded
    macs_change: float = 0.0
    final_macs_change: float = 0.0
    rounds: int = 0
    rounds_wanted: int = 0
    capped: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One training round as the store recorded it.

    Attributes:
        phase: phase in which it started.
        joules: above idle, the trainer's share; ``gross_joules`` with everything that ran meanwhile.
        method: how the joules were come by: counter, integrated or modelled.
        miou_before, miou_after, miou_frozen: live, candidate and first model on the gate's samples.
    """

    id: str
    phase: str
    trigger: str
    reason: str
    outcome: str
    reasons: tuple[str, ...]
    parent: str | None
    candidate: str | None
    miou_before: float | None
    miou_after: float | None
    miou_frozen: float | None
    joules: float | None
    gross_joules: float | None
    method: str | None
    steps: int | None
    seconds: float | None
    macs_before: int | None
    macs_after: int | None


@dataclass(frozen=True, kw_only=True)
class Version:
    """One model version as the store recorded it; MACs per image at the model's reference size."""

    version: str
    parent: str | None
    status: str
    macs: int
    parameters: int
    miou_gate: float | None


@dataclass(frozen=True, kw_only=True)
class Joules:
    """Joules above idle by workload over the whole stream, and how they were come by."""

    training: float
    inference: float
    ingest: float
    labelling: float
    method: str
    source: str


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """Everything that one demonstration found.

    Attributes:
        daemon_status: exit status of the daemon after SIGTERM.
        eval_frames: fresh frames per phase behind each mIoU.
        max_seconds: the longest that it might have taken.
        epochs: that the first model was pretrained for.
        eval_seed: seed of the street that they show; never that of the stream.
    """

    seed: int
    seconds: float
    frames: Frames
    masks_received: int
    phases: tuple[Phase, ...]
    rounds: tuple[Round, ...]
    versions: tuple[Version, ...]
    joules: Joules
    daemon_status: int
    eval_frames: int
    eval_seed: int
    classes: tuple[str, ...]
    max_seconds: float
    epochs: int = EPOCHS
