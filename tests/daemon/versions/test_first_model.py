"""The first model of a state directory: weights from a file, or why they are of no use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dance_ondevice import base
from dance_ondevice.daemon.config.load import ConfigError
from dance_ondevice.daemon.config.sections import UNTRAINED, Config, Model
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.daemon.versions.versions import Versions
from dance_ondevice.models import checkpoint
from dance_ondevice.models.registry import build

CLASSES = ("road", "sky", "car")


@pytest.fixture
def versions(paths: StatePaths, store: Store) -> Versions:
    return Versions(paths, store, now=lambda: 1.0)


def config(weights: Path) -> Config:
    return Config(model=Model(classes=CLASSES, weights=str(weights), size=(64, 48)))


@pytest.mark.slow
def test_a_file_of_weights_becomes_the_first_model(
    paths: StatePaths, versions: Versions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, file = build("fastscnn", 3), tmp_path / "weights.pt"
    torch.save({"state_dict": source.state_dict()}, file)
    with caplog.at_level("INFO"):
        pointer = first_model.ensure(config(file), "test.toml", paths, versions)
    found, card = checkpoint.load(versions.directory(pointer.version))
    state = source.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.state_dict().items())
    assert card.classes == CLASSES
    assert not first_model.is_untrained(versions.card(pointer.version))
    assert first_model.warning(versions.card(pointer.version)) is None
    assert f"{len(state)} of {len(state)} tensors matched" in caplog.text
    assert first_model.ensure(config(file), "test.toml", paths, versions) == pointer


@pytest.mark.slow
def test_weights_that_fit_in_part_are_used_and_told(
    paths: StatePaths, versions: Versions, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pt"
    torch.save(build("fastscnn", 19).state_dict(), file)  # of another data set: the classifier differs
    pointer = first_model.ensure(config(file), "test.toml", paths, versions)
    card = versions.card(pointer.version)
    assert first_model.is_untrained(card)
    assert card["training"]["weights"]["missing"] == []
    assert len(card["training"]["weights"]["misshapen"]) == 2
    warning = first_model.warning(card)
    assert warning is not None
    assert warning.startswith(f"the live model is only partly filled from {file}: its masks mean little")
    assert "misshapen classifier.3.weight (19x128x1x1, not 3x128x1x1)" in warning


@pytest.mark.slow
def test_weights_of_another_network_are_a_mistake_in_the_configuration(
    paths: StatePaths, versions: Versions, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"backbone.weight": torch.ones(3, 3)}, file)
    with pytest.raises(ConfigError, match=r"model.weights: .* no weight has the name .* backbone.weight"):
        first_model.ensure(config(file), "test.toml", paths, versions)
    assert versions.pointer() is None


def test_a_folder_without_a_card_is_refused(paths: StatePaths, versions: Versions, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"allowed a folder with .* or a file of weights"):
        first_model.ensure(config(tmp_path), "test.toml", paths, versions)


def test_the_program_says_what_is_wrong_with_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.pt").write_bytes(b"nothing")
    arguments = ["fastscnn", "", json.dumps(CLASSES), "0", "64", "48", str(tmp_path / "out")]
    assert first_model.main([*arguments, str(tmp_path / "w.pt")]) == 3
    assert "w.pt" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_warnings_of_a_card() -> None:
    about = {"file": "w.pt", "missing": [], "misshapen": [], "unexpected": ["a"], "summary": "unexpected a"}
    assert first_model.warning({}) is None
    assert first_model.warning({"training": {"steps": 3}}) is None
    assert "untrained" in str(first_model.warning({"training": {"untrained": True}}))
    assert (
        first_model.warning({"training": {"weights": about}})
        == "not all of w.pt matched the network (unexpected a)"
    )


@pytest.mark.slow
def test_a_fresh_state_of_the_default_classes_starts_from_the_packages_base(
    paths: StatePaths, versions: Versions
) -> None:
    pointer = first_model.ensure(Config(model=Model(size=(64, 48))), "test.toml", paths, versions)
    model, card = checkpoint.load(versions.directory(pointer.version))
    shipped, _ = checkpoint.load(base.FOLDER)
    state = shipped.state_dict()

    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert card.macs_at == (48, 64)
    assert card.unslimmed_macs == card.macs
    assert not first_model.is_untrained(versions.card(pointer.version))
    assert first_model.warning(versions.card(pointer.version)) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [Model(size=(64, 48), weights=UNTRAINED), Model(size=(64, 48), classes=CLASSES)]
)
def test_a_state_starts_untrained_where_that_is_asked_for_or_no_base_fits(
    paths: StatePaths, versions: Versions, model: Model
) -> None:
    pointer = first_model.ensure(Config(model=model), "test.toml", paths, versions)

    assert first_model.is_untrained(versions.card(pointer.version))
