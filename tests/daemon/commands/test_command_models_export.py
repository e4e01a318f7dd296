from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from dance_ondevice.daemon.cli import main
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.registry import build, build_from_factory

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


def test_a_network_beside_the_configuration_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, name = tmp_path / "site", "net_beside_the_site"
    site.mkdir()
    (site / f"{name}.py").write_text("from torch import nn\ndef make(n): return nn.Conv2d(3, n, 1)\n")
    (site / "site.toml").write_text(
        f'[daemon]\nstate_dir = "{tmp_path}"\n[model]\nclasses = ["a", "b"]\nfactory = "{name}:make"\n'
    )
    monkeypatch.setenv("DANCE_MODEL_PATH", "")
    with monkeypatch.context() as made:
        made.syspath_prepend(str(site))
        model = build_from_factory(f"{name}:make", 2)
        card = ModelCard(classes=("a", "b"), macs_at=(64, 96), factory=f"{name}:make")
        checkpoint.save(tmp_path / "models" / "v0", model, card)
    del sys.modules[name]
    monkeypatch.setattr(sys, "path", list(sys.path))
    command = [
        "models",
        "export",
        "v0",
        "--out",
        str(tmp_path / "x.onnx"),
        "--format",
        "onnx",
        "--condition",
        "dusk",
    ]

    done = CliRunner().invoke(main, [*command, "--config", str(site / "site.toml")])

    assert "no statistics of a condition 'dusk'" in done.output
