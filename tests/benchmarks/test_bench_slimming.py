"""``bench slimming``: recipes, choices, the report, and a real call that is killed and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from bench_plans import SIZE, plan_of
from click.testing import CliRunner
from torch import nn

from dance_ondevice.benchmarks.result import About, write_result
from dance_ondevice.benchmarks.slimming import run
from dance_ondevice.benchmarks.slimming.choices import Choices
from dance_ondevice.benchmarks.slimming.images import drives, for_inference, labelled
from dance_ondevice.benchmarks.slimming.plan import Point, Trained
from dance_ondevice.benchmarks.slimming.recipes import (
    ENCODERS,
    EPOCHS,
    TARGET_MACS,
    VARIANTS,
    Protocol,
    Setting,
    recipe,
)
from dance_ondevice.benchmarks.slimming.report import Timed, make_report
from dance_ondevice.benchmarks.tables import render
from dance_ondevice.daemon.cli import main
from dance_ondevice.datasets.listing import DatasetError
from dance_ondevice.models.registry import ARCHITECTURES, build
from dance_ondevice.policies.stream.data_slimming import SlimmingRules
from dance_ondevice.runtime.formats import ExportError
from dance_ondevice.runtime.graph_file import ServingGraph
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.cooptimisation import freeze

WHICH = ("random", "random-condition", "infobatch", "least-loss", "complexity")


def train_samples(root: Path) -> tuple[TrainingSample, ...]:
    return tuple(
        TrainingSample(image, root / "trainannot" / f"{image.stem}.png")
        for image in sorted((root / "train").iterdir())
    )


@pytest.mark.parametrize(("setting", "variant"), [(s, v) for s, found in VARIANTS.items() for v in found])
@pytest.mark.parametrize("protocol", ["long", "full", "quick"])
def test_recipes_never_grow_and_spend_no_more_than_dense(
    protocol: Protocol, setting: Setting, variant: str
) -> None:
    found = recipe(variant, protocol, setting)
    fractions = [stage.macs_fraction for stage in found.stages]
    assert fractions == sorted(fractions, reverse=True)
    dense = EPOCHS[protocol, setting]
    cost = sum(stage.epochs * stage.macs_fraction * stage.window**2 for stage in found.stages)
    assert cost <= dense * 1.001
    whole = variant == "dance+full-width" or (
        setting == "finetune" and variant not in ("dance+slimmed", "dance+gentle")
    )
    slims = variant in ("network", "dance") or (variant.startswith("dance+") and not whole)
    assert found.slims == slims
    if variant in WHICH:
        assert sum(stage.epochs for stage in found.stages) == dense
        assert len({stage.choice for stage in found.stages}) == len(found.stages)
    if variant in ("network", "dance"):
        assert fractions[-1] == TARGET_MACS
        assert sum(stage.epochs for stage in found.stages) == dense


@pytest.mark.parametrize(
    ("setting", "variant", "told"),
    [
        ("scratch", "thin", r"scratch knows no variant 'thin'; choose among dense, data"),
        ("finetune", "dance+frozen", r"finetune knows no variant 'dance\+frozen'; choose among dense, data"),
    ],
)
def test_an_unknown_variant_is_named(setting: Setting, variant: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        recipe(variant, "quick", setting)


def test_an_ablation_changes_one_thing_of_its_own_settings_dance_plus() -> None:
    ours = recipe("dance+", "full", "scratch")
    scales = recipe("dance+bn-scale", "full", "scratch")
    assert {stage.importance for stage in ours.stages} == {"bn_scale", "combined"}
    assert {stage.importance for stage in scales.stages} == {"bn_scale"}
    like_ours = tuple(
        replace(stage, importance=of.importance) for stage, of in zip(scales.stages, ours.stages, strict=True)
    )
    assert replace(scales, stages=like_ours, about=ours.about) == ours
    wide = recipe("dance+full-width", "full", "scratch")
    assert (wide.batch_size, wide.rate, wide.inference_scales) == (
        ours.batch_size,
        ours.rate,
        ours.inference_scales,
    )
    assert {(stage.window, stage.zoom, stage.frozen) for stage in wide.stages} == {
        (stage.window, stage.zoom, stage.frozen) for stage in ours.stages
    }
    fine = recipe("dance+", "full", "finetune")
    late = recipe("dance+late", "full", "finetune")
    assert {stage.frozen for stage in fine.stages} == {()}
    assert tuple(replace(stage, frozen=ENCODERS["fastscnn"]) for stage in fine.stages) == late.stages


@pytest.mark.parametrize("variant", VARIANTS["finetune"])
def test_fine_tuning_keeps_statistics_where_it_cuts_nothing(variant: str) -> None:
    found = recipe(variant, "full", "finetune")
    assert {stage.fixed_statistics for stage in found.stages} == {not found.slims}


@pytest.mark.parametrize("setting", ["scratch", "finetune"])
def test_scales_of_inference_and_more_epochs_are_ablations_too(setting: Setting) -> None:
    ours = recipe("dance+", "full", setting)
    scaled = recipe("dance+frame-scale", "full", setting)
    assert len(scaled.inference_scales) == 3
    assert (scaled.trained_as, scaled.stages) == ("dance+", ours.stages)
    for variant, times in (("dance+twice", 2), ("dance+four-times", 4), ("dance+three-quarters", 0.75)):
        if variant in VARIANTS[setting]:
            longer = sum(stage.epochs for stage in recipe(variant, "full", setting).stages)
            assert longer == pytest.approx(times * sum(stage.epochs for stage in ours.stages), abs=times)


@pytest.mark.parametrize("setting", ["scratch", "finetune"])
def test_a_shorter_dense_training_differs_in_its_length_alone(setting: Setting) -> None:
    dense = recipe("dense", "full", setting)
    for variant, share in (("dense-half", 0.5), ("dense-quarter", 0.25)):
        shorter = recipe(variant, "full", setting)
        (stage,) = shorter.stages
        assert stage.epochs == share * dense.stages[0].epochs
        assert replace(shorter, stages=(replace(stage, epochs=24),), about=dense.about) == dense
    assert recipe("dense-quarter", "quick", setting).stages[0].epochs == 1


def test_what_cannot_be_frozen_is_told() -> None:
    found = recipe("dance+late", "full", "finetune", "mine:net")
    assert {stage.frozen for stage in found.stages} == {()}
    assert found.about.endswith("(none here: the layers of mine:net are not known)")
    assert "none here" not in recipe("dense", "full", "finetune", "mine:net").about


def test_choices(camvid_tree: Path) -> None:
    train = train_samples(camvid_tree)
    losses = {sample.image.name: float(index) for index, sample in enumerate(train)}
    seen: list[TrainingSample] = []

    def loss_of(model: nn.Module, samples: Sequence[TrainingSample]) -> list[float]:
        seen.extend(samples)
        return [losses[sample.image.name] for sample in samples]

    choose = Choices(train, SlimmingRules(), loss_of)
    model = nn.Identity()
    assert choose("all", model) == train
    assert choose("every:3", model) == train[::3]
    for choice in ("service", *(f"draw:{which}/random/inverse:0" for which in WHICH)):
        slimmed = choose(choice, model)
        assert len(slimmed) == 7  # 30 % of ten are dropped
        scales = sorted(sample.scale for sample in slimmed)
        assert {scales.count(scale) for scale in (0.5, 0.75, 1.0)} == {2, 3}
    hardest = choose("draw:least-loss/full/one:0", model)
    assert [sample.image for sample in hardest] == [sample.image for sample in train[3:]]
    assert {(sample.scale, sample.weight) for sample in hardest} == {(1.0, 1.0)}
    assert {sample.scale for sample in seen} == {0.5}
    # Five of ten lie below the mean loss; two of those are left, and stand for all five.
    spared = choose("draw:infobatch/full/inverse:0", model)
    assert [sample.weight for sample in spared] == [2.5, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert sum(sample.weight for sample in spared) == len(train)
    assert choose("draw:random/random/inverse:0", model) != choose("draw:random/random/inverse:1", model)
    assert choose("draw:random/random/inverse:1", model) == choose("draw:random/random/inverse:1", model)
    weighed = choose("draw:complexity/one/inverse:0", model)
    assert {sample.weight for sample in weighed} != {1.0}
    assert {sample.weight for sample in choose("draw:complexity/one/one:0", model)} == {1.0}
    assert sum(s.scale**2 for s in weighed) / 7 == pytest.approx((1 + 0.75**2 + 0.5**2) / 3)
    for wrong in ("best", "draw:best/full/one:0", "draw:random/best/one:0"):
        with pytest.raises(ValueError, match=r"unknown .* '(draw:)?best'"):
            choose(wrong, model)


def test_inference_scales_rank_among_the_training_images(camvid_tree: Path, tmp_path: Path) -> None:
    train = train_samples(camvid_tree)
    plan = plan_of(camvid_tree, tmp_path)
    assert {s.scale for s in for_inference(train, plan, (0.75,), train)} == {0.75}
    ranked = for_inference(train, plan, (1.0, 0.5), train)
    assert sorted(sample.scale for sample in ranked) == [0.5] * 5 + [1.0] * 5
    half = replace(plan, size=(SIZE[0] // 2, SIZE[1] // 2))
    assert {s.scale for s in for_inference(train, half, (1.0,), train)} == {0.5}


def test_drives_of_one_split_are_divided(camvid_tree: Path, tmp_path: Path) -> None:
    names = [f"d{number:03d}" for number in range(31)]
    train, val = drives(names, "train"), drives(names[::-1], "val")
    assert train == sorted({*names[0::5], *names[3::5]})
    assert val == names[2::10]
    root = tmp_path / "drives"
    for folder in ("train", "trainannot"):
        (root / folder).mkdir(parents=True)
        for number, path in enumerate(sorted((camvid_tree / folder).iterdir())):
            (root / folder / f"000{number}R0_f00001{path.suffix}").write_bytes(path.read_bytes())
    plan = replace(plan_of(root, tmp_path), by_drive=True)
    assert plan.evaluated == ("val",)
    assert [s.image.name[:4] for s in labelled(plan, "train")] == ["0000", "0003", "0005", "0008"]
    assert [s.image.name[:4] for s in labelled(plan, "val")] == ["0002"]
    with pytest.raises(DatasetError, match="train has 1 drives, too few to hold some out"):
        labelled(replace(plan_of(camvid_tree, tmp_path / "one"), by_drive=True), "val")


def trained(seconds: float, scores: list[float]) -> Trained:
    curve = tuple(
        Point(epoch=i + 1, seconds=seconds * (i + 1) / len(scores), macs=i, miou={"val": score})
        for i, score in enumerate(scores)
    )
    return Trained(
        about="", epochs=len(scores), samples_seen=1, train_seconds=seconds, train_macs=100,
        train_joules=None, meter="", peak_bytes=10, miou={"val": scores[-1]},
        iou_per_class={"val": {"road": 0.5}}, inference_scales={"1": 1.0},
        infer_macs=5, macs=5, parameters=3, curve=curve, widths={},
    )  # fmt: skip


def timed(milliseconds: float) -> Timed:
    return Timed(infer_ms=milliseconds, infer_cpu_ms_served=milliseconds / 2, engine="onnxruntime")


def test_the_report_sets_variants_against_dense(tmp_path: Path) -> None:
    found = {"dense": trained(100, [0.1, 0.4, 0.5]), "dance": trained(30, [0.2, 0.5, 0.45])}
    report = make_report(plan_of(tmp_path, tmp_path), found, {"dense": timed(20.0), "dance": timed(8.0)})
    dance = report.variants["dance"]
    assert dance.ratios["train_seconds"] == 0.3
    assert dance.ratios["infer_ms"] == dance.ratios["infer_cpu_ms_served"] == 0.4
    assert (dance.infer_cpu_ms_served, dance.engine) == (4.0, "onnxruntime")
    assert report.chosen_on == "camvid, val and test"
    assert "train_joules" not in dance.ratios
    assert dance.miou_gain["val"] == pytest.approx(-0.05)
    reached = dance.reaches_dense["val"]
    assert reached is not None
    assert (reached.seconds, reached.of_dense, reached.epoch) == (20.0, 0.2, 2)
    itself = report.variants["dense"].reaches_dense["val"]
    assert itself is not None
    assert itself.epoch == 3
    alone = make_report(plan_of(tmp_path, tmp_path), {"dance": found["dance"]}, {"dance": timed(8.0)})
    assert alone.variants["dance"].ratios == {}
    below = make_report(
        plan_of(tmp_path, tmp_path),
        {**found, "dance": trained(30, [0.2])},
        {"dense": timed(1.0), "dance": timed(1.0)},
    )
    assert below.variants["dance"].reaches_dense["val"] is None


def test_a_report_has_all_figures_of_the_training(tmp_path: Path) -> None:
    """Which is what older results hold, too."""
    one = replace(trained(10, [0.2]), widths={"a": (8, 4)}, removed_branches=("b",), train_joules=7.0)
    report = make_report(plan_of(tmp_path, tmp_path), {"dance": one}, {"dance": timed(8.0)})
    found = msgspec.to_builtins(report)["variants"]["dance"]
    assert {key: found[key] for key in msgspec.to_builtins(one)} == msgspec.to_builtins(one)
    assert set(found) - set(msgspec.to_builtins(one)) == {
        "infer_ms",
        "infer_cpu_ms_served",
        "engine",
        "ratios",
        "miou_gain",
        "reaches_dense",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread_one_seed")
def test_a_killed_call_goes_on_and_reports(
    camvid_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "result.json"
    command = [
        "bench", "slimming", "--dataset", "camvid", "--root", str(camvid_tree), "--size", "96x64",
        "--precision", "fp32", "--variants", "dense,dance", "--out", str(out), "--json",
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "dance_ondevice", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as first:
        assert first.stderr is not None
        assert first.stderr.readline().startswith("dense: epoch 1/4")
        os.killpg(first.pid, signal.SIGKILL)
    assert not out.exists()
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 0, again.stderr
    lines = [line for line in again.stderr.splitlines() if ": epoch" in line]
    assert "dance: epoch 4/4" in lines[-1]
    report = json.loads(again.stdout)
    assert report == json.loads(out.read_text())
    assert report["epochs"] == 4
    dense, dance = report["variants"]["dense"], report["variants"]["dance"]
    assert [point["epoch"] for point in dense["curve"]] == [1, 2, 3, 4]
    assert set(dense["miou"]) == {"val", "test"}
    assert dance["ratios"]["train_macs"] < 0.6
    assert dance["infer_macs"] < 0.5 * dense["infer_macs"]
    assert dense["peak_bytes"] > 50e6
    assert dense["infer_cpu_ms_served"] > 0
    assert dense["engine"] in ("torch", "onnxruntime")
    assert (tmp_path / "result-cost.svg").is_file()
    assert "classifier.3" in (tmp_path / "result-channels.svg").read_text()
    # Done variants are not trained again, and another call's work is not mistaken for this one's.
    monkeypatch.setattr(run, "graph_of", not_exported)
    third = CliRunner().invoke(main, command)
    assert third.exit_code == 0, third.stderr
    assert ": epoch" not in third.stderr
    assert json.loads(third.stdout)["variants"]["dense"]["engine"] == "torch"
    other = CliRunner().invoke(main, [*command, "--seed", "1"])
    assert other.exit_code == 2
    assert "another call" in other.stderr


def not_exported(*_: object) -> ServingGraph:
    raise ExportError("onnx is not installed")


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_what_is_frozen_is_there(architecture: str) -> None:
    first = recipe("dance+frozen", "full", "scratch", architecture).stages[0].frozen
    encoder = recipe("dance+late", "full", "finetune", architecture).stages[0].frozen
    model = build(architecture, 3)
    for frozen in (first, encoder):
        assert frozen
        freeze(model, frozen)
    assert any(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for name in encoder for p in model.get_submodule(name).parameters())
    assert recipe("dense", "full", "scratch", architecture).stages[0].frozen == ()


def test_the_page_tells_which_targets_were_reached(tmp_path: Path) -> None:
    ours = replace(trained(20, [0.2, 0.52]), train_macs=15, infer_macs=2, miou={"val": 0.52})
    found = {"dense": trained(100, [0.1, 0.4, 0.5]), "dance+": ours}
    about = About(
        benchmark="slimming", command="", data="", machine="", date="2026-01-02", seed=0, version="0"
    )
    write_result(
        tmp_path / "a.json",
        about,
        make_report(plan_of(tmp_path, tmp_path), found, {"dense": timed(20.0), "dance+": timed(12.0)}),
    )
    page = render(tmp_path)
    assert "80.0% (85.0%) | 40.0% (60.0%) | 40.0% (70.0%) | val +2.0 | training, mIoU val |" in page
    assert "## Slimming, fastscnn on camvid, scratch, seed 0" in page
    (tmp_path / "a.json").unlink()
    assert "against its targets" not in render(tmp_path)
