"""The doctor compares the live model with what the configuration asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.config.sections import Config, Model
from dance_ondevice.daemon.doctor.model import check_model
from dance_ondevice.daemon.system.state import StatePaths

CLASSES = ("sky", "road")


def model(folder: Path, sha256: str, **card: Any) -> Path:
    folder.mkdir(parents=True)
    facts = {"architecture": "fastscnn", "classes": CLASSES, "sha256": sha256, "training": {"steps": 3}}
    (folder / "card.json").write_text(json.dumps({**facts, **card}))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def config(**changed: Any) -> Config:
    return Config(model=Model(**{"classes": CLASSES, **changed}))


def test_the_model_that_is_asked_for_is_live(paths: StatePaths, tmp_path: Path) -> None:
    assert check_model(config(), paths).status == "ok"
    model(paths.models / "v0001", "aa")
    paths.live_file.write_text('{"version": "v0001"}')
    assert check_model(config(weights=str(model(tmp_path / "base", "aa"))), paths).status == "ok"


def test_another_model_is_a_warning_with_its_remedy(paths: StatePaths, tmp_path: Path) -> None:
    model(paths.models / "v0001", "aa")
    paths.live_file.write_text('{"version": "v0001"}')
    better = model(tmp_path / "better", "bb")
    found = check_model(config(weights=str(better)), paths)
    assert (found.status, found.name) == ("warning", "model")
    assert f"dance-ondevice models import {better}" in found.remedy
    (paths.models / "taken.json").write_text('["bb"]')  # it came in, and was rejected
    assert check_model(config(weights=str(better)), paths).status == "ok"
    found = check_model(config(architecture="pspnet"), paths)
    assert "model.architecture: pspnet is asked for, v0001 (fastscnn) stays live" in found.detail
    assert check_model(config(weights=str(tmp_path / "nothing")), paths).status == "warning"


def test_other_classes_are_a_failure(paths: StatePaths) -> None:
    (paths.root / "classes.json").write_text(json.dumps(CLASSES))
    found = check_model(config(classes=("road", "sky")), paths)
    assert found.status == "failure"
    assert "dance-ondevice classes append" in found.remedy
