"""What the demonstration found: values, the conditions for success, and ``report.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


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

    def shortcomings(self) -> tuple[str, ...]:
        """Which conditions for success failed, in words with their figures; empty when all were met."""
        found = []
        if self.frames.kept == 0:
            found.append("no frame was kept")
        if self.frames.dropped == 0:
            found.append("no frame was dropped")
        if self.masks_received == 0:
            found.append("no mask came back")
        if len(self.rounds) < 2:
            found.append(f"{len(self.rounds)} of at least 2 rounds ran")
        if not any(r.outcome == "promoted" for r in self.rounds):
            found.append("no candidate was promoted")
        found += [
            f"on {p.name} the live model ({p.miou_live:.3f} mIoU) does not beat the frozen one "
            f"({p.miou_frozen:.3f})"
            for p in self.phases
            if p.drifted and p.miou_live <= p.miou_frozen
        ]
        if self.daemon_status != 0:
            found.append(f"the daemon ended with status {self.daemon_status} after SIGTERM instead of 0")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data; the keys that other programs read come first."""
        frames = asdict(self.frames)
        for key in ("kept_by_scale", "dropped_by_scale"):
            frames[key] = {f"{scale:g}": count for scale, count in sorted(frames[key].items(), reverse=True)}
        shortcomings = self.shortcomings()
        return {
            "frames": frames,
            "masks_received": self.masks_received,
            "phases": [asdict(p) for p in self.phases],
            "rounds": [{**asdict(r), "reasons": list(r.reasons)} for r in self.rounds],
            "versions": [asdict(v) for v in self.versions],
            "joules": asdict(self.joules),
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "passed": not shortcomings,
            "shortcomings": list(shortcomings),
            "daemon_status": self.daemon_status,
            "evaluation": {"frames_per_phase": self.eval_frames, "seed": self.eval_seed},
            "classes": list(self.classes),
        }
