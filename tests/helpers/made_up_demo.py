"""A report with invented figures."""

from __future__ import annotations

from typing import Any

from dance_ondevice.demo.reporting.report import DemoReport, Frames, Joules, Phase, Round, Version
from dance_ondevice.policies.promotion.bootstrap import Bounded

CLASSES = ("sky", "road", "car")


def phase(name: str, condition: str, frozen: float, live: float, **other: Any) -> Phase:
    values: dict[str, Any] = {
        "name": name,
        "condition": condition,
        "drifted": condition != "day",
        "seconds": 31.4,
        "frames": 240,
        "masks": 230,
        "live_version": "v0002",
        "miou_frozen": frozen,
        "miou_live": live,
        "miou_final": live + 0.01,
        "gain": Bounded(live - frozen, live - frozen - 0.02, live - frozen + 0.02),
        "final_gain": Bounded(live + 0.01 - frozen, live - frozen, live + 0.03 - frozen),
        "rounds": 2,
        "rounds_wanted": 2,
        "metrics": {'dance_samples{labelled="true"}': 120.0},
    }
    return Phase(**{**values, **other})


def round_(number: int, outcome: str, **other: Any) -> Round:
    values: dict[str, Any] = {
        "id": f"20261122T14000{number}-1",
        "phase": "dusk",
        "trigger": "interval",
        "reason": "31 new labelled samples",
        "outcome": outcome,
        "reasons": ("mIoU rose by 0.051 (0.402 to 0.453)", "slimmed from 106.1 M to 95.5 M MACs"),
        "parent": "v0001",
        "candidate": "v0002",
        "miou_before": 0.402,
        "miou_after": 0.453,
        "miou_frozen": 0.402,
        "joules": 61.2,
        "gross_joules": 110.0,
        "method": "modelled",
        "steps": 40,
        "seconds": 14.2,
        "macs_before": 106_100_000,
        "macs_after": 95_500_000,
    }
    return Round(**{**values, **other})


def report(**other: Any) -> DemoReport:
    values: dict[str, Any] = {
        "seed": 0,
        "seconds": 201.37,
        "frames": Frames(
            sent=960,
            kept=672,
            dropped=288,
            rejected=0,
            overflow=0,
            labelled=336,
            kept_by_scale={1.0: 240, 0.75: 215, 0.5: 217},
            dropped_by_scale={0.5: 288},
        ),
        "masks_received": 944,
        "phases": (
            phase("day", "day", 0.612, 0.607),
            phase("dusk", "dusk", 0.334, 0.452),
            phase("rain", "rain", 0.391, 0.478, live_version="v0003"),
            phase("day again", "day", 0.609, 0.581, live_version="v0003"),
        ),
        "rounds": (
            round_(1, "promoted"),
            round_(2, "rejected", reasons=("class car fell by 0.081 (0.511 to 0.430)",), phase="rain"),
            round_(
                3, "failed", miou_after=None, macs_after=None, joules=None, reasons=("killed by signal 9",)
            ),
        ),
        "versions": (
            Version(
                version="v0001",
                parent=None,
                status="retired",
                macs=106_100_000,
                parameters=1_140_000,
                miou_gate=None,
            ),
            Version(
                version="v0002",
                parent="v0001",
                status="live",
                macs=95_500_000,
                parameters=1_020_000,
                miou_gate=0.453,
            ),
        ),
        "joules": Joules(
            training=412.0, inference=93.0, ingest=21.0, labelling=0.0, method="modelled", source="cpu-model"
        ),
        "daemon_status": 0,
        "eval_frames": 20,
        "eval_seed": 1_000_003,
        "classes": CLASSES,
        "max_seconds": 480.0,
    }
    return DemoReport(**{**values, **other})
