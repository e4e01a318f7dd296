"""Plans of ``bench slimming`` on images of 64x96."""

from __future__ import annotations

from pathlib import Path

from dance_ondevice.benchmarks.slimming.plan import Plan

SIZE = (64, 96)


def plan_of(root: Path, work: Path, init: Path | None = None) -> Plan:
    """Training from scratch, or going on from the model in ``init``, which is of ``rigid_nets:net``."""
    return Plan(
        dataset="camvid",
        root=root,
        sequences=(),
        architecture="rigid_nets:net" if init else "fastscnn",
        setting="finetune" if init else "scratch",
        init=str(init) if init else "",
        protocol="quick",
        seed=0,
        device="cpu",
        precision="fp32",
        size=SIZE,
        work=work,
    )
