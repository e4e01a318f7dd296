"""``bench slimming`` where it cannot do what is asked: wrong usage, rigid models, old work."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bench_plans import SIZE, plan_of
from click.testing import CliRunner
from torch import nn

from dance_ondevice.benchmarks.result import About, write_result
from dance_ondevice.benchmarks.slimming.first_model import why_not_slimmed
from dance_ondevice.benchmarks.slimming.plan import read_plan, read_trained
from dance_ondevice.benchmarks.slimming.run import NothingToTrain, OtherPlan, run
from dance_ondevice.benchmarks.tables import render
from dance_ondevice.daemon.cli import main
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.registry import build

#: A model whose channels group normalisation ties together.
RIGID = """
from torch import nn

def net(classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 4, 1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, classes, 1)
    )
"""


def saved(folder: Path, model: nn.Module, card: ModelCard) -> Path:
    checkpoint.save(folder, model, card)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    card = ModelCard(architecture="fastscnn", classes=STREET_CLASSES, macs_at=SIZE)
    return saved(tmp_path / "base", build("fastscnn", len(STREET_CLASSES)), card)


@pytest.fixture
def rigid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rigid_nets.py").write_text(RIGID)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rigid_nets = importlib.import_module("rigid_nets")

    card = ModelCard(factory="rigid_nets:net", classes=STREET_CLASSES, macs_at=SIZE)
    found = saved(tmp_path / "rigid", rigid_nets.net(len(STREET_CLASSES)), card)
    del sys.modules["rigid_nets"]
    return found


def refused(root: Path, out: Path, *arguments: str) -> str:
    command = ["bench", "slimming", "--dataset", "camvid", "--root", str(root), "--out", str(out)]
    done = CliRunner().invoke(main, [*command, "--precision", "fp32", *arguments])
    assert done.exit_code == 2, done.output
    return " ".join(done.stderr.split())


def test_wrong_usage_is_told_before_anything_is_trained(
    camvid_tree: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "r.json"
    fine = ("--setting", "finetune", "--init", str(base))
    assert "torch finds no CUDA device here" in refused(camvid_tree, out, "--device", "cuda")
    assert f"{base} is fastscnn, not hrnet" in refused(camvid_tree, out, *fine, "--architecture", "hrnet")
    assert "finetune knows no variant 'dance+frozen'" in refused(
        camvid_tree, out, *fine, "--variants", "dance+frozen"
    )
    assert "name dance+ before it" in refused(camvid_tree, out, "--variants", "dense,dance+full-scale,dance+")
    assert "no variant is named" in refused(camvid_tree, out, "--variants", ",")
    assert "finetune needs a model" in refused(camvid_tree, out, "--setting", "finetune")
    assert "both sides must be 64 pixels or more" in refused(camvid_tree, out, "--size", "96x32")
    assert "no is no folder" in refused(camvid_tree, tmp_path / "no" / "r.json")
    other = ModelCard(architecture="fastscnn", classes=("road", "sky"), macs_at=SIZE)
    wrong = saved(tmp_path / "wrong", build("fastscnn", 2), other)
    told = refused(camvid_tree, out, "--setting", "finetune", "--init", str(wrong))
    assert "--init: the model knows the classes road, sky; camvid has" in told
    assert not (tmp_path / "r.work").exists()


@pytest.mark.slow
def test_whether_a_model_can_be_slimmed_is_found_by_slimming_it(
    camvid_tree: Path, rigid: Path, tmp_path: Path
) -> None:
    assert why_not_slimmed(plan_of(camvid_tree, tmp_path), STREET_CLASSES) == ""
    reason = why_not_slimmed(plan_of(camvid_tree, tmp_path, rigid), STREET_CLASSES)
    assert "no group of channels that could be removed" in reason


def test_a_call_of_which_nothing_is_left_says_why(camvid_tree: Path, rigid: Path, tmp_path: Path) -> None:
    plan = plan_of(camvid_tree, tmp_path / "work", rigid)
    told: list[str] = []
    with pytest.raises(NothingToTrain, match=r"none of network, dance can be trained: the model cannot be"):
        run(plan, ("network", "dance"), told.append)
    assert [line.split(":")[0] for line in told] == ["network", "dance"]
    with pytest.raises(OtherPlan):
        run(replace(plan, seed=1), ("dense",), told.append)


@pytest.mark.slow
def test_dense_goes_on_where_nothing_can_be_slimmed(camvid_tree: Path, rigid: Path, tmp_path: Path) -> None:
    told: list[str] = []
    report = run(
        plan_of(camvid_tree, tmp_path / "work", rigid), ("dense", "network", "dance+slimmed"), told.append
    )
    assert list(report.variants) == ["dense"]
    assert list(report.left_out) == ["network", "dance+slimmed"]
    assert all(reason.startswith("the model cannot be slimmed: ") for reason in report.left_out.values())
    assert told[-1].startswith("dense: epoch 4/4")
    about = About(
        benchmark="slimming", command="", data="", machine="", date="2026-01-02", seed=0, version="0"
    )
    results = tmp_path / "results"
    results.mkdir()
    write_result(results / "a.json", about, report)
    assert "- network: left out, the model cannot be slimmed: " in render(results)


def test_work_of_earlier_versions_is_read(tmp_path: Path) -> None:
    """The keys of files that a long training may have left: none may be renamed."""
    plan = {
        "dataset": "camvid", "root": "/data", "sequences": ["0001TP"], "architecture": "fastscnn",
        "setting": "finetune", "init": "/base", "protocol": "full", "seed": 0, "device": "cpu",
        "precision": "bf16", "size": [360, 480], "work": "/elsewhere",
    }  # fmt: skip
    trained = {
        "about": "a", "epochs": 2, "samples_seen": 4, "train_seconds": 1.5, "train_macs": 9,
        "train_joules": None, "meter": "", "peak_bytes": 7, "miou": {"val": 0.5},
        "iou_per_class": {"val": {"road": None}}, "inference_scales": {"1": 1.0}, "infer_macs": 5, "macs": 6,
        "parameters": 3, "curve": [{"epoch": 1, "seconds": 1.0, "macs": 4, "miou": {"val": 0.25}}],
        "widths": {"stem": [8, 4]}, "removed_branches": ["b"],
    }  # fmt: skip
    for name, value in (("plan", plan), ("trained", trained)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    found = read_plan(tmp_path / "plan.json")
    assert (found.size, found.folder("dense")) == ((360, 480), Path("/elsewhere/dense"))
    variant = read_trained(tmp_path / "trained.json")
    assert (variant.curve[0].miou, variant.widths["stem"]) == ({"val": 0.25}, (8, 4))
