"""The README's figures are those of the results that it links to, and it stays one screen long."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def result(name: str) -> dict[str, Any]:
    assert f"docs/benchmarks/{name}.json" in README
    found: dict[str, Any] = json.loads((ROOT / "docs" / "benchmarks" / f"{name}.json").read_bytes())
    return found


def test_the_dusk() -> None:
    of = result("camvid-stream-day-dusk")["variants"]
    dusk = {name: f"{one['final_miou']['dusk']:.3f}" for name, one in of.items()}
    day = {name: f"{one['final_miou']['day']:.3f}" for name, one in of.items()}
    joules = {name: f"{one['joules']:.0f} J" for name, one in of.items()}
    said = (
        f"without a label {dusk['frozen']} -> {dusk['dance_none']} mIoU for {joules['dance_none']}, ",
        f"with every label {dusk['dance']} for {joules['dance']}, and the day stays at {day['dance']}. ",
        f"Dense fine-tuning: {dusk['naive']} for {joules['naive']}, and the day falls to {day['naive']}",
    )
    assert "".join(said) in README
    assert f"{day['frozen']} by day, {dusk['frozen']} at dusk" in README


def test_slimming() -> None:
    seeds = [result(f"slimming-fastscnn-scratch-{seed}")["variants"] for seed in range(3)]
    pairs = [(one["dense"], one["dance+"]) for one in seeds]
    training, inference = (
        mean(1 - ours[key] / dense[key] for dense, ours in pairs) for key in ("train_seconds", "infer_ms")
    )
    test, val = (
        100 * mean(dense["miou"][split] - ours["miou"][split] for dense, ours in pairs)
        for split in ("test", "val")
    )
    assert (
        f"{100 * training:.0f} % of training's seconds, {100 * inference:.0f} % of inference's; it costs "
        f"{test:.1f} points of mIoU at the held-out dusk and {val:.1f} on other frames"
    ) in README


def test_engines() -> None:
    ratios = {
        one["name"]: f"{one['cpu_ratio']:.2f}"
        for one in result("predict")["engines"]
        if one["model"] == "dense" and one["scale"] == 1.0
    }
    assert f"onnxruntime {ratios['onnxruntime']}, OpenVINO {ratios['openvino']} of torch's CPU time" in README


def test_it_is_one_screen() -> None:
    assert len(README.splitlines()) < 80
