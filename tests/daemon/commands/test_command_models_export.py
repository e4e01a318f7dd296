from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from dance_ondevice.daemon.cli import main
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.registry import build

SMALL = {"downsample": [4, 4, 4], "bottlenecks": [4, 4, 4], "repeats": [1, 1, 1], "expansion": 1, "fusion": 4}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    card = ModelCard(classes=("road", "sky"), macs_at=(64, 96), architecture="fastscnn", arguments=SMALL)
    checkpoint.save(tmp_path / "models" / "v0", build("fastscnn", 2, SMALL).eval(), card)
    return tmp_path


def export(state: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["models", "export", *arguments, "--state-dir", str(state)])
    return done.exit_code, done.output


@pytest.mark.slow
def test_a_version_becomes_a_file(state: Path) -> None:
    out = state / "v0.pt"
    code, text = export(state, "v0", "--format", "torchscript", "--out", str(out), "--json")
    assert code == 0, text
    said = json.loads(text)
    assert said["version"] == "v0"
    assert said["size"] is None
    assert said["parity"]["mask_agreement"] > 0.999
    assert said["bytes"] == out.stat().st_size


def test_what_is_not_there_is_told(state: Path) -> None:
    out = str(state / "x.onnx")
    code, text = export(state, "v9", "--format", "onnx", "--out", out)
    assert (code, "there are: v0" in text) == (1, True)
    code, text = export(state, "v0", "--format", "onnx", "--out", out, "--condition", "dusk")
    assert (code, "no statistics of a condition 'dusk'" in text) == (1, True)
    assert export(state, "v0", "--format", "onnx", "--out", out, "--size", "big")[0] == 2
    assert not Path(out).exists()
