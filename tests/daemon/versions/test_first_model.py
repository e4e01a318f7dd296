"""The first model of a state directory: weights from a file, or why they are of no use."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dance_ondevice.daemon.config.load import ConfigError
from dance_ondevice.daemon.config.sections import UNTRAINED, Config, Model
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import base, first_model
from dance_ondevice.daemon.versions.versions import Pointer, Versions, check_intact
from dance_ondevice.models import checkpoint, packaged
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.registry import build

CLASSES = ("road", "sky", "car")


@pytest.fixture
def versions(paths: StatePaths, store: Store) -> Versions:
    return Versions(paths, store, now=lambda: 1.0)


def config(weights: Path | str = "", **model: Any) -> Config:
    chosen: dict[str, Any] = {"classes": CLASSES, "weights": str(weights), "size": (64, 48), **model}
    return Config(model=Model(**chosen))


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
    assert not base.is_untrained(versions.card(pointer.version))
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
    assert base.is_untrained(card)
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
    with pytest.raises(ConfigError, match=r"model.weights: .*allowed a folder with .* or a file of weights"):
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


def model_at(folder: Path, seed: int = 0, *, architecture: str = "fastscnn", **card: Any) -> Path:
    """A small trained model as somebody brings it."""
    torch.manual_seed(seed)
    facts: dict[str, Any] = {
        "classes": CLASSES,
        "macs_at": (48, 64),
        "version": "v0042",
        "training": {"steps": 9},
    }
    model = build(architecture, len(card.get("classes", CLASSES)))
    checkpoint.save(folder, model, ModelCard(architecture=architecture, **{**facts, **card}))
    return folder


def with_card(folder: Path, **changes: Any) -> Path:
    file = folder / "card.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | changes))
    return folder


def start(paths: StatePaths, versions: Versions, wanted: Config) -> Pointer:
    """As the daemon starts without inference."""
    first_model.start(wanted, "test.toml", paths, versions, check_intact)
    return first_model.ensure(wanted, "test.toml", paths, versions)


def statuses(store: Store) -> dict[str, str]:
    rows = store.submit(lambda db: list(db.query("select version, status from versions"))).result()
    return {row["version"]: row["status"] for row in rows}


def nan_weights(folder: Path) -> Path:
    """As another program may write them; ``checkpoint.save`` refuses to."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    next(each for each in tensors.values() if each.is_floating_point()).view(-1)[0] = float("nan")
    save_file(tensors, file)
    return with_card(folder, sha256=hashlib.sha256(file.read_bytes()).hexdigest())


BROKEN = {
    "a wrong width": lambda folder: with_card(
        folder,
        channels={
            name: [1048576, 1048576, 1] if index == 0 else widths
            for index, (name, widths) in enumerate(
                json.loads((folder / "card.json").read_bytes())["channels"].items()
            )
        },
    ),
    "an endless size": lambda folder: with_card(folder, macs_at=[2147483648, 2147483648]),
    "a huge size": lambda folder: with_card(folder, macs_at=[20000, 20000]),
    "NaN": nan_weights,
    "no network": lambda folder: with_card(folder, architecture="nothing"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.usefixtures("first_models_at_hand")
def test_a_base_model_is_tried_before_it_is_adopted(
    paths: StatePaths, versions: Versions, tmp_path: Path, fault: str
) -> None:
    broken = BROKEN[fault](model_at(tmp_path / "base"))
    with pytest.raises(ConfigError, match=r"model\.weights: found .*base") as raised:
        start(paths, versions, config(broken))
    assert str(raised.value).count("\n") == 0
    assert versions.names() == []
    assert not paths.live_file.exists()
    # Mending the configuration mends the service.
    assert start(paths, versions, config()).version == "v0001"


@pytest.mark.slow
@pytest.mark.usefixtures("first_models_at_hand")
def test_new_weights_take_the_place_of_an_untrained_model_at_once(
    paths: StatePaths, versions: Versions, store: Store, tmp_path: Path
) -> None:
    assert start(paths, versions, config()).version == "v0001"
    good = config(model_at(tmp_path / "base", seed=5))
    assert start(paths, versions, good) == Pointer("v0002", "v0001", "v0002")
    assert statuses(store) == {"v0001": "retired", "v0002": "live"}
    assert start(paths, versions, good).version == "v0002"
    # What has learnt stays, and the change is told with its remedy.
    other = config(model_at(tmp_path / "better", seed=1))
    assert start(paths, versions, other).version == "v0002"
    (change,) = base.ModelChanges(other, versions, paths).found()
    assert change.key == "model.weights"
    assert f"models import {tmp_path}/better" in change.remedy
    kind = config(tmp_path / "base", architecture="pspnet")
    (change,) = base.ModelChanges(kind, versions, paths).found()
    assert change.key == "model.architecture"
    assert "models import" in change.remedy
    assert base.ModelChanges(good, versions, paths).found() == ()
    # A reload says the same of both, and promises no restart.
    told = base.ModelChanges(good, versions, paths).unapplied(other)
    assert list(told) == ["model.weights"]


@pytest.mark.slow
@pytest.mark.usefixtures("first_models_at_hand")
def test_another_network_takes_the_place_of_an_untrained_one(
    paths: StatePaths, versions: Versions, store: Store
) -> None:
    start(paths, versions, config())
    assert base.ModelChanges(config(), versions, paths).unapplied(config(architecture="hrnet")) == {}
    pointer = start(paths, versions, config(architecture="bisenetv2"))
    assert versions.card(pointer.version)["architecture"] == "bisenetv2"
    assert statuses(store) == {"v0001": "retired", "v0002": "live"}


@pytest.mark.slow
def test_a_live_base_that_does_not_load_gives_way_once_the_configuration_is_mended(
    paths: StatePaths, versions: Versions, tmp_path: Path
) -> None:
    """As an earlier release left it, which adopted before it tried."""
    good = config(model_at(tmp_path / "base"))
    live = versions.directory(start(paths, versions, good).version)

    def loads(folder: Path) -> None:
        if folder == live:
            raise RuntimeError("no such operator")

    other = config(model_at(tmp_path / "better", seed=1))
    first_model.start(other, "test.toml", paths, versions, loads)
    assert versions.pointer() == Pointer("v0002", None, "v0002")
    assert "no such operator" in str(versions.note)


@pytest.mark.slow
def test_a_base_of_other_classes_is_refused_with_what_helps(
    paths: StatePaths, versions: Versions, tmp_path: Path
) -> None:
    of_two = model_at(tmp_path / "base", classes=("road", "sky"))
    with pytest.raises(ConfigError, match=r"model\.weights: .*a model for \['road', 'sky'\]"):
        start(paths, versions, config(of_two))
    assert start(paths, versions, config(of_two, classes=("road", "sky"))).version == "v0001"


@pytest.mark.slow
def test_what_a_card_says_of_its_own_service_stays_behind(
    paths: StatePaths, versions: Versions, tmp_path: Path
) -> None:
    folder = model_at(tmp_path / "base", training={"steps": 9, "round": "r1"}, gate={"outcome": "rejected"})
    with_card(folder, parent="v0041", probation={"outcome": "passed"})
    card = versions.card(start(paths, versions, config(folder)).version)
    assert card["training"] == {"steps": 9}
    assert not {"gate", "probation"} & card.keys()
    assert (card["version"], card["parent"]) == ("v0001", None)
    assert versions.of_round("r1") is None


@pytest.mark.slow
def test_a_fresh_state_of_the_default_classes_starts_from_the_packages_base(
    paths: StatePaths, versions: Versions
) -> None:
    pointer = start(paths, versions, Config(model=Model(size=(64, 48))))
    model, card = checkpoint.load(versions.directory(pointer.version))
    shipped, _ = checkpoint.load(packaged.FOLDER)
    state = shipped.state_dict()

    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert card.macs_at == (48, 64)
    assert card.unslimmed_macs == card.macs
    kept = versions.card(pointer.version)
    assert not base.is_untrained(kept)
    assert first_model.warning(kept) is None
    about = first_model.about(kept)
    assert about is not None
    assert "masks are rough until it has learnt from labels of this camera" in about
    assert "0.57 by day, 0.55 by dusk" in about
    # A round writes another card, and a model of other data is another model.
    assert first_model.about({**kept, "parent": "v0001"}) is None
    assert first_model.about({**kept, "training": {"dataset": {"name": "camvid"}}}) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [Model(size=(64, 48), weights=UNTRAINED), Model(size=(64, 48), classes=CLASSES)]
)
def test_a_state_starts_untrained_where_that_is_asked_for_or_no_base_fits(
    paths: StatePaths, versions: Versions, model: Model
) -> None:
    pointer = start(paths, versions, Config(model=model))

    assert base.is_untrained(versions.card(pointer.version))
    assert start(paths, versions, Config(model=model)) == pointer


@pytest.mark.parametrize("limit", ["first_model._LONGEST_SECONDS", "tryout._LONGEST_SECONDS"])
def test_a_machine_too_busy_to_make_or_try_a_model_is_no_mistake_in_the_configuration(
    paths: StatePaths, versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"dance_ondevice.daemon.versions.{limit}", 0)
    brought = model_at(tmp_path / "brought") if limit.startswith("tryout") else ""
    with pytest.raises(TimeoutError, match="too busy"):
        first_model.ensure(config(brought), "test.toml", paths, versions)
    assert versions.pointer() is None
