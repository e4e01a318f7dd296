"""The README's figures are those of the results that it links to, and it stays one screen long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def result(name: str) -> dict[str, Any]:
    assert f"docs/benchmarks/{name}.json" in README
    found: dict[str, Any] = json.loads((ROOT / "docs" / "benchmarks" / f"{name}.json").read_bytes())
    return found


def more(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], split: str) -> float:
    """Points of mIoU by which the second variant of each pair lies above the first, on average."""
    return 100 * mean(ours["miou"][split] - dense["miou"][split] for dense, ours in pairs)


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
    seeds = [result(f"slimming-fastscnn-scratch-anew-{seed}")["variants"] for seed in range(3)]
    pairs = [(one["dense"], one["dance+"]) for one in seeds]
    training, inference = (
        mean(1 - ours[key] / dense[key] for dense, ours in pairs) for key in ("train_seconds", "infer_ms")
    )
    test, val = (-more(pairs, split) for split in ("test", "val"))
    assert (
        f"{100 * training:.0f} % of training's seconds, {100 * inference:.0f} % of inference's; it costs "
        f"{test:.1f} points of mIoU at the held-out dusk and {val:.1f} on other frames"
    ) in README


def test_ending_early() -> None:
    seeds = [result(f"slimming-fastscnn-scratch-control-{seed}")["variants"] for seed in range(3)]
    pairs = [(one["dense-quarter"], one["dance+"]) for one in seeds]
    times = mean(dense["train_seconds"] / ours["train_seconds"] for dense, ours in pairs)
    test, val = (more(pairs, split) for split in ("test", "val"))
    assert (
        f"a quarter of the epochs takes {times:.1f} times slimming's seconds, for {test:.1f} points of mIoU "
        f"less at the dusk and {val:.1f} less elsewhere |"
    ) in README


def test_fine_tuning() -> None:
    seeds = [result(f"slimming-espnetv2-finetune-windows-{seed}")["variants"] for seed in range(3)]

    def saved(name: str, key: str) -> str:
        return f"{100 * mean(1 - one[name]['ratios'][key] for one in seeds):.0f}"

    def gained(name: str, split: str) -> float:
        return 100 * mean(one[name]["miou"][split] - one["dense"]["miou"][split] for one in seeds)

    full, smaller = (
        {split: gained(name, split) for split in ("val", "test")} for name in ("dance+", "dance+small-scale")
    )
    training, memory = (saved("dance+", key) for key in ("train_seconds", "peak_bytes"))
    inference = saved("dance+small-scale", "infer_cpu_ms_served")
    assert full["val"] > 0
    assert smaller["val"] < 0
    assert (
        f"{training} % of training's CPU time and {memory} % of its memory saved against dense, for "
        f"{full['val']:.1f} points of mIoU more on frames of a known drive and {full['test']:.1f} more at "
        f"the held-out dusk; inferred at three quarters, {inference} % of inference's as well, for "
        f"{-smaller['val']:.1f} fewer and {smaller['test']:.1f} more |"
    ) in README


def test_the_dusk_of_a_published_base() -> None:
    of = result("camvid-stream-espnetv2-small-dusk")["variants"]
    dusk, day = (
        {name: f"{one['final_miou'][light]:.3f}" for name, one in of.items()} for light in ("dusk", "day")
    )
    assert (
        f"{dusk['frozen']} untouched, {dusk['dance_none']} without a label, {dusk['dance_three']} with three "
        f"labelled frames; the day stays at {day['dance_three']} |"
    ) in README


def test_the_fleet() -> None:
    arms = {name: variant["runs"] for name, variant in result("fleet-camvid-full")["variants"].items()}

    def gains(figure: str) -> list[float]:
        return [
            100 * (mean(b[figure] for b in ours["boards"]) - mean(b[figure] for b in alone["boards"]))
            for ours, alone in zip(arms["fleet"], arms["alone"], strict=True)
        ]

    union, own = gains("union"), gains("own")
    assert (
        f"{min(union):.1f} to {max(union):.1f} points of mIoU over learning alone on all scenes together, "
        f"{min(own):.1f} to {max(own):.1f} on their own |"
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
