"""``report.json``: the report of a demonstration for other programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from dance_ondevice.demo.reporting.report import DemoReport
from dance_ondevice.demo.reporting.verdict import described, judge
from dance_ondevice.documents import decode

#: Its name in the folder of the report.
REPORT_FILE = "report.json"


class _Seeded(msgspec.Struct):
    seed: int


def seed_of(path: Path) -> int:
    """The seed of the report in ``path``.

    Raises:
        OSError: It cannot be read.
        DocumentError: It is no report.
    """
    return decode(path.read_bytes(), _Seeded).seed


def as_json(report: DemoReport) -> dict[str, Any]:
    """Return the report as plain data; keys that other programs read come first."""
    frames = asdict(report.frames)
    for key in ("kept_by_scale", "dropped_by_scale"):
        frames[key] = {f"{scale:g}": count for scale, count in sorted(frames[key].items(), reverse=True)}
    found = judge(report)
    return {
        "frames": frames,
        "masks_received": report.masks_received,
        "phases": [{**asdict(p), "said": described(p, report.eval_frames)} for p in report.phases],
        "rounds": [{**asdict(r), "reasons": list(r.reasons)} for r in report.rounds],
        "versions": [asdict(v) for v in report.versions],
        "joules": asdict(report.joules),
        "seed": report.seed,
        "seconds": round(report.seconds, 1),
        "passed": found.passed,
        "shortcomings": [*found.failures, *found.shortfalls],
        "failures": list(found.failures),
        "notes": list(found.notes),
        "advice": found.advice,
        "pretraining_epochs": report.epochs,
        "daemon_status": report.daemon_status,
        "evaluation": {"frames_per_phase": report.eval_frames, "seed": report.eval_seed},
        "classes": list(report.classes),
    }
