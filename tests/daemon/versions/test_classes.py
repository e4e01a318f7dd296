"""The classes of a state folder, fixed from the first label on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import SMALL

from dance_ondevice.conditions import statistics
from dance_ondevice.conditions import store as conditions
from dance_ondevice.conditions.arrays import CONDITIONS_FILE
from dance_ondevice.daemon.config.load import ConfigError
from dance_ondevice.daemon.config.sections import Config, Model
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import classes
from dance_ondevice.daemon.versions.versions import Pointer, VersionError, Versions
from dance_ondevice.daemon.versions.widen import main
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import predict
from dance_ondevice.models.registry import ARCHITECTURES, build

KEPT = ("sky", "road", "car")
LEARNT = {"classes": list(KEPT), "training": {"steps": 3}}


def check(paths: StatePaths, asked: tuple[str, ...], *, labelled: int, live: dict | None = None) -> None:
    classes.check(Config(model=Model(classes=asked)), "site.toml", paths, live, labelled=labelled)


@pytest.mark.parametrize(
    "asked",
    [("sky", "car", "road"), ("sky", "road", "cart"), ("sky", "road"), ("sky", "road", "car", "tree")],
    ids=["swapped", "renamed", "removed", "appended"],
)
@pytest.mark.parametrize("live", [None, LEARNT], ids=["labels alone", "a model"])
def test_no_other_classes_once_there_are_labels_or_a_model(
    paths: StatePaths, asked: tuple[str, ...], live: dict | None
) -> None:
    check(paths, KEPT, labelled=0)
    with pytest.raises(ConfigError) as raised:
        check(paths, asked, labelled=0 if live else 29, live=live)
    text = str(raised.value)
    assert "site.toml: model.classes: found" in text
    assert "dance-ondevice classes append" in text
    assert ("append 'tree'" in text) == ("tree" in asked)
    assert "another model.weights" not in text
    # The remedy that it names first works.
    check(paths, KEPT, labelled=29, live=live)
    assert classes.known(paths) == KEPT


def test_classes_may_change_as_long_as_nothing_belongs_to_them(paths: StatePaths) -> None:
    check(paths, KEPT, labelled=0)
    untrained = {"classes": list(KEPT), "training": {"untrained": True}}
    check(paths, ("a", "b"), labelled=0, live=untrained)
    assert classes.known(paths) == ("a", "b")


def test_a_state_folder_of_an_earlier_release_goes_by_its_live_model(paths: StatePaths) -> None:
    with pytest.raises(ConfigError):
        check(paths, ("sky", "car", "road"), labelled=3, live=LEARNT)
    check(paths, KEPT, labelled=3, live=LEARNT)
    assert classes.known(paths) == KEPT


def small(folder: Path, architecture: str = "fastscnn", **card: object) -> Path:
    torch.manual_seed(3)
    built = dict(SMALL[architecture])
    facts = {
        "classes": KEPT,
        "macs_at": (48, 64),
        "architecture": architecture,
        "arguments": built,
        **card,
    }
    checkpoint.save(folder, build(architecture, 3, built), ModelCard(**facts))  # type: ignore[arg-type]  # facts of several types
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_wider_head_leaves_every_mask_as_it_was(tmp_path: Path, architecture: str) -> None:
    folder = small(tmp_path / "v1", architecture)
    assert main([str(folder), str(tmp_path / "v2"), json.dumps([*KEPT, "tree"])]) == 0
    before, _ = checkpoint.load(folder)
    after, card = checkpoint.load(tmp_path / "v2")
    assert card.classes == (*KEPT, "tree")
    image, _ = StreetCamera(seed=1, height=48, width=64).render(0, "day")
    found = [predict(model, image, card.normalisation) for model in (before, after)]
    assert np.array_equal(*(each.mask for each in found))
    assert found[1].mean_confidence < found[0].mean_confidence  # there is one class more to be unsure of


@pytest.mark.slow
def test_what_a_condition_has_learnt_for_the_head_gets_a_row_as_well(tmp_path: Path) -> None:
    folder = small(tmp_path / "v1")
    model, _ = checkpoint.load(folder)
    head = [name for name, tensor in model.named_parameters() if tensor.shape[0] == 3]
    kept = {"c1": statistics.capture(model, learnt=head)}
    (folder / CONDITIONS_FILE).write_bytes(conditions.encode(kept, "about"))
    assert main([str(folder), str(tmp_path / "v2"), json.dumps([*KEPT, "tree"])]) == 0
    wider, _ = checkpoint.load(tmp_path / "v2")
    found, about = conditions.load_conditions(tmp_path / "v2")
    assert about == "about"
    statistics.apply(wider, found["c1"])
    assert {found["c1"].learnt[name].shape[0] for name in head} == {4}


@pytest.mark.slow
def test_appending_widens_the_live_and_the_first_version(
    paths: StatePaths, store: Store, tmp_path: Path
) -> None:
    versions = Versions(paths, store, now=lambda: 1.0)
    classes.remember(paths, KEPT)
    for number in (1, 2):
        card = {"training": {"round": f"r{number}", "steps": number}}
        folder = small(tmp_path / f"m{number}", **card)
        version = versions.adopt(folder, status="candidate", round_id=None, changes={})
        versions.make_live(version, reason="better")
    assert classes.append(paths, versions, KEPT, "tree") == (*KEPT, "tree")
    assert classes.known(paths) == (*KEPT, "tree")
    assert versions.pointer() == Pointer("v0004", None, "v0003")
    live = versions.live()
    assert live is not None
    assert (live.card["classes"], live.card["parent"]) == ([*KEPT, "tree"], "v0002")
    assert live.card["training"] == {"steps": 2}
    assert versions.of_round("r2") == "v0002"
    # Cut short before the list was written, the same call completes it and makes no further version.
    classes.remember(paths, KEPT)
    classes.append(paths, versions, KEPT, "tree")
    assert classes.known(paths) == (*KEPT, "tree")
    assert len(versions.names()) == 4


@pytest.mark.parametrize("name", ["road", "", " "])
def test_a_name_of_no_use_is_refused(paths: StatePaths, store: Store, name: str) -> None:
    with pytest.raises(VersionError, match="give another name"):
        classes.append(paths, Versions(paths, store, now=lambda: 1.0), KEPT, name)
    assert classes.known(paths) == ()
