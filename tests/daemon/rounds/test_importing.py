"""A model from outside comes into a state folder that has one: at once, through the gate, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from round_rig import CONFIG, Rig

from dance_ondevice.daemon.config.sections import Config, Promotion
from dance_ondevice.daemon.rounds.service import Request, Rounds
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.daemon.versions.versions import Pointer, VersionError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("first_models_at_hand")]

CAUTIOUS = msgspec.structs.replace(CONFIG, promotion=Promotion(min_gain=1.0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as somebody brings it; what its card says of another service is not this one's."""
    folder = tmp_path_factory.mktemp("brought") / "base"
    width, height = map(str, CONFIG.model.size)
    first_model.main(["fastscnn", "", json.dumps(CONFIG.model.classes), "7", width, height, str(folder)])
    with_card(folder, training={"steps": 9, "round": "r-elsewhere"}, gate={"outcome": "rejected"})
    return folder


def with_card(folder: Path, **changes: Any) -> None:
    file = folder / "card.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | changes))


def rig_of(paths: StatePaths, store: Store, config: Config, *, learnt: bool) -> Rig:
    rig = Rig(paths, store, config)
    pointer = first_model.ensure(config, "test.toml", paths, rig.versions)
    if learnt:
        rig.versions.annotate(pointer.version, {"training": {"steps": 3}})
    return rig


def statuses(rig: Rig) -> dict[str, str]:
    return {row["version"]: row["status"] for row in rig.rows("select version, status from versions")}


def test_while_the_live_model_is_untrained_it_is_live_at_once(
    paths: StatePaths, store: Store, trained: Path
) -> None:
    rig = rig_of(paths, store, CAUTIOUS, learnt=False)
    rounds = Rounds(rig.context)
    answer = rounds._answered(Request(1, "import", "requested", str(trained)))
    assert (answer["outcome"], answer["version"]) == ("live", "v0002")
    assert rig.versions.pointer() == Pointer("v0002", "v0001", "v0002")
    assert statuses(rig) == {"v0001": "retired", "v0002": "live"}
    card = rig.versions.card("v0002")
    assert card["imported"]["from"] == str(trained)
    assert card["training"] == {"steps": 9}
    assert "gate" not in card
    # The same once more is no second version.
    again = rounds._answered(Request(2, "import", "requested", str(trained)))
    assert again["outcome"] == "failed"
    assert "is the live model v0002 already" in again["reasons"][0]
    assert rig.versions.names() == ["v0001", "v0002"]


def test_a_model_that_has_learnt_is_replaced_through_the_gate_alone(
    paths: StatePaths, store: Store, add_street: Callable[..., list[str]], trained: Path
) -> None:
    add_street(store, 24)
    rig = rig_of(paths, store, CAUTIOUS, learnt=True)
    answer = rig.procedure.bring_in(trained)
    assert answer["outcome"] == "rejected"
    assert "+1.000 is required" in answer["reasons"][0]
    assert rig.versions.pointer() == Pointer("v0001", None, "v0001")
    assert statuses(rig) == {"v0001": "live", "v0002": "rejected"}
    gate = rig.versions.card("v0002")["gate"]
    assert (gate["outcome"], gate["reasons"]) == ("rejected", answer["reasons"])
    assert gate["samples"] > 0
    rig.context.config = CONFIG  # asks for nothing
    lost = {"condition gone": [-0.01, 0.004, 1]}
    rig.versions.annotate("v0001", {"gate": {"falls": lost}})
    answer = rig.procedure.bring_in(trained)
    assert (answer["outcome"], answer["version"]) == ("live", "v0003")
    assert lost.items() <= rig.versions.card("v0003")["gate"]["falls"].items()
    assert rig.versions.pointer() == Pointer("v0003", "v0001", "v0001")
    assert rig.versions.card("v0003")["gate"]["outcome"] == "promoted"
    assert rig.procedure.probation.state() is not None
    spent = rig.rows("select settled_joules from ledger where round_id like 'import%'")
    assert len(spent) == 2
    assert all(row["settled_joules"] > 0 for row in spent)
    assert not list(paths.rounds.glob(".import*"))


def test_without_held_out_samples_nothing_says_that_it_is_better(
    paths: StatePaths, store: Store, trained: Path
) -> None:
    rig = rig_of(paths, store, CONFIG, learnt=True)
    answer = rig.procedure.bring_in(trained)
    assert answer["outcome"] == "rejected"
    assert "no held-out samples" in answer["reasons"][0]
    assert rig.procedure.switch(answer["version"], reason="by hand").version == "v0002"


def test_what_is_of_no_use_changes_nothing(
    paths: StatePaths, store: Store, tmp_path: Path, trained: Path
) -> None:
    rig = rig_of(paths, store, CONFIG, learnt=False)
    bad = {
        "other classes": {"classes": ["road", "sky"]},
        "damaged": {"sha256": "0" * 64},
        "untrained": {"training": {"untrained": True}},
    }
    for name, changes in bad.items():
        shutil.copytree(trained, tmp_path / name)
        with_card(tmp_path / name, **changes)
        with pytest.raises(VersionError, match=name) as raised:
            rig.procedure.bring_in(tmp_path / name)
        assert str(tmp_path) in str(raised.value)
    with pytest.raises(VersionError, match=r"no card\.json"):
        rig.procedure.bring_in(tmp_path / "nothing")
    assert rig.versions.names() == ["v0001"]
    assert not list(paths.models.glob(".*"))


def test_by_hand_too_only_the_classes_of_the_service_and_whole_numbers(
    paths: StatePaths, store: Store, trained: Path
) -> None:
    """A folder that somebody copied under models/, or an earlier release's."""
    rig = rig_of(paths, store, CONFIG, learnt=False)
    shutil.copytree(trained, paths.models / "v0002")
    with_card(paths.models / "v0002", classes=["road", "sky", "car"])
    shutil.copytree(trained, paths.models / "v0003")
    with_card(paths.models / "v0003", sha256="0" * 64)
    for version, why in (("v0002", "other classes"), ("v0003", "does not load"), ("v0002/", "no readable")):
        for act in (lambda v: rig.procedure.switch(v, reason="by hand"), rig.procedure.rollback):
            with pytest.raises(VersionError, match=why):
                act(version)
    assert rig.versions.pointer() == Pointer("v0001", None, "v0001")
