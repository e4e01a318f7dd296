"""Report of the demonstration: the values of ``report.json`` and of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dance_ondevice.demo.shares import EPOCHS
from dance_ondevice.policies.promotion.bootstrap import Bounded


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Numbers of frames by outcome, and by the scale that the policy chose.

    Attributes:
        sent: Frames that the camera sent.
        kept, dropped, rejected, overflow: Frames by outcome, as the daemon's metrics count them.
        labelled: Kept frames that came with a label.
        kept_by_scale, dropped_by_scale: Scale -> number of frames.
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
    """One stretch of the stream under one condition, and the models' scores on evaluation frames of it.

    Attributes:
        name: Unique name.
        condition: Condition that was rendered.
        drifted: Whether the first model was trained without this condition.
        seconds: Duration of the phase.
        frames: Number of frames sent.
        masks: Number of masks received.
        live_version: Version that was live at the end; None if the daemon did not report it.
        miou_frozen: mIoU of the first model, in [0, 1].
        miou_live: mIoU of the version that was live at the phase's end.
        miou_final: mIoU of the last live version, which shows forgetting.
        gain, final_gain: Gain in mIoU of the version live at the phase's end, and of the last live one, over
            the first, with 95 % confidence bounds over the choice of frames.
        macs_change, final_macs_change: Relative change of their MACs per image from the first's (-0.2: a
            fifth fewer).
        rounds: Number of rounds that started in the phase and have ended, some of them after it.
        rounds_wanted: Number of judged rounds that the phase waited for.
        capped: Whether the phase ended by its time limit and not by its rounds.
        metrics: Sums of metrics at the phase's end by name, scraped over HTTP.
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
        phase: Phase in which the round started.
        joules: The trainer's joules above idle power.
        gross_joules: Joules above idle power of everything that ran during the round.
        method: Method of measurement: "counter", "integrated" or "modelled".
        miou_before, miou_after, miou_frozen: mIoU of the live, the candidate and the first model on the
            samples held out for promotion.
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
    """Joules above idle power by workload over the whole stream, and their method of measurement."""

    training: float
    inference: float
    ingest: float
    labelling: float
    method: str
    source: str


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """The results of one demonstration.

    Attributes:
        daemon_status: Exit status of the daemon after SIGTERM.
        eval_frames: Number of evaluation frames of each phase.
        max_seconds: Time limit of the demonstration.
        epochs: Number of epochs that the first model was pretrained for.
        eval_seed: Seed of the street in the evaluation frames, which differs from the stream's.
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
