"""Rounds that meet trouble: no hope, joules or memory; labels that teach nothing; a damaged first model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from round_rig import CONFIG, Rig
from stored import new_sample

from dance_ondevice.daemon.children import jobs, watcher
from dance_ondevice.daemon.config.sections import Promotion
from dance_ondevice.daemon.rounds.watch import Progress
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.images import codec as images

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("first_models_at_hand")]

USED = "select rounds_used from samples where split = 'train'"


@pytest.fixture
def rig(paths: StatePaths, store: Store, add_street: Callable[..., list[str]]) -> Rig:
    add_street(store, 24)
    return Rig(paths, store, CONFIG)


def add_labels(store: Store, count: int, class_id: int) -> None:
    """Frames of noise, one a second, whose labels hold one class (255: none) everywhere."""
    label = images.encode_png(np.full((48, 64), class_id, np.uint8))
    for seq in range(count):
        picture = np.random.default_rng(seq).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        sample = new_sample(
            seq,
            data=images.encode_png(picture),
            width=64,
            height=48,
            native_width=64,
            native_height=48,
            label=(),
        )
        classes = () if class_id == 255 else (class_id,)
        store.add_sample(dataclasses.replace(sample, label=label, classes=classes)).result(30)


def test_a_round_without_hope_gives_up_after_a_third_and_saves_the_joules(
    paths: StatePaths, store: Store, add_street: Any
) -> None:
    add_street(store, 24)
    strict = msgspec.structs.replace(CONFIG, promotion=Promotion(min_gain=1.0))
    rig = Rig(paths, store, strict)
    outcome = rig.round()
    assert outcome.outcome == "rejected"
    assert "after a third of the steps" in outcome.reasons[0]
    assert outcome.version is None
    (row,) = rig.rows("select steps, curve, outcome from rounds")
    curve = json.loads(row["curve"])
    assert [step for step, _ in curve["points"]] == [row["steps"]]
    assert row["steps"] < curve["steps"]
    assert rig.versions.names() == ["v0001"]
    # Judged all the same: its samples no longer count as new.
    assert {r["rounds_used"] for r in rig.rows("select rounds_used from samples where split = 'train'")} == {
        1
    }


@pytest.mark.usefixtures("many_steps")
def test_a_round_that_runs_out_of_joules_is_judged_as_it_is(rig: Rig, monkeypatch: Any) -> None:
    seen: list[Progress] = []
    rig.progress = lambda progress: seen.append(progress) if progress else None

    def must_stop(*, spent: float, allowance: float, step_joules: float = 0.0) -> str | None:
        # What is set aside for judging is spent at two thirds of the steps.
        late = seen and 3 * seen[-1].step >= 2 * seen[-1].steps
        return "joules are short" if step_joules > 0 and late else None

    monkeypatch.setattr(rig.budget, "must_stop", must_stop)
    outcome = rig.round()
    assert outcome.outcome == "promoted", outcome.reasons
    card = rig.versions.card("v0002")
    assert seen[-1].steps * 2 / 3 <= card["training"]["steps"] < seen[-1].steps
    assert any("ended after" in reason and "joules are short" in reason for reason in outcome.reasons)
    joules = [each.joules for each in seen if each.joules is not None]
    assert joules == sorted(joules)
    assert 0 < joules[-1] <= outcome.gross_joules


@pytest.mark.usefixtures("many_steps")
def test_a_round_that_runs_out_of_joules_too_early_is_stopped(rig: Rig, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        rig.budget, "must_stop", lambda *, step_joules=0.0, **_: "joules are short" if step_joules else None
    )
    outcome = rig.round()
    assert (outcome.outcome, outcome.reasons) == ("stopped", ("joules are short",))


def test_a_round_that_does_not_fit_the_memory_goes_on_with_smaller_batches(
    rig: Rig, monkeypatch: Any
) -> None:
    limits = iter([1 << 40, 1 << 20, 1 << 40])  # for the plan, the first attempt, the second
    monkeypatch.setattr(watcher, "memory_limit", lambda _: next(limits))
    monkeypatch.setattr("dance_ondevice.daemon.rounds.prepare.memory_limit", lambda _: next(limits))
    outcome = rig.round()
    assert outcome.outcome == "promoted", outcome.reasons
    (row,) = rig.rows("select batch_size, image_scale, peak_bytes from rounds")
    assert (row["batch_size"], row["image_scale"]) == (CONFIG.training.batch_size // 2, 1.0)
    assert row["peak_bytes"] > 1 << 20
    assert jobs.read_job(rig.paths.rounds / outcome.round / "job.json").batch_size == row["batch_size"]


def test_a_round_that_fits_in_no_size_fails_and_says_so(
    paths: StatePaths, store: Store, add_street: Any, monkeypatch: Any
) -> None:
    add_street(store, 24)
    small = msgspec.structs.replace(CONFIG.training, batch_size=2)
    rig = Rig(paths, store, msgspec.structs.replace(CONFIG, training=small))
    monkeypatch.setattr(watcher, "memory_limit", lambda _: 1 << 20)
    outcome = rig.round()
    assert outcome.outcome == "failed"
    assert "cannot be made smaller" in outcome.reasons[0]
    assert "2 images a step at 50% of their sides" in outcome.reasons[0]
    assert not rig.rows("select * from ledger where closed_at is null")
    assert rig.versions.names() == ["v0001"]


def test_labels_that_ignore_everything_teach_nothing_and_break_nothing(
    paths: StatePaths, store: Store
) -> None:
    add_labels(store, 24, 255)
    outcome = Rig(paths, store, CONFIG).round()
    assert outcome.outcome == "rejected"
    assert "none of the" in outcome.reasons[0]
    assert "has a labelled pixel" in outcome.reasons[0]


def test_classes_that_never_appear_are_no_obstacle(paths: StatePaths, store: Store) -> None:
    add_labels(store, 24, 3)
    outcome = Rig(paths, store, CONFIG).round()
    assert outcome.outcome == "promoted", outcome.reasons


def test_a_single_labelled_frame_waits_for_others_to_judge_by(
    paths: StatePaths, store: Store, add_street: Any
) -> None:
    add_street(store, 1)
    rig = Rig(paths, store, CONFIG)
    refused = rig.run()
    assert isinstance(refused, str)
    assert "no held-out samples" in refused
    assert rig.rows("select * from rounds") == []


def test_a_first_model_that_is_damaged_is_missed_by_nobody_but_the_yardstick(rig: Rig) -> None:
    first = rig.round()
    assert first.outcome == "promoted", first.reasons
    tensors = rig.versions.directory("v0001") / "model.safetensors"
    content = bytearray(tensors.read_bytes())
    content[len(content) // 2] ^= 1
    tensors.write_bytes(content)
    rig.store.submit(lambda db: db.execute("update samples set rounds_used = 0")).result()
    second = rig.round()
    assert second.outcome == "promoted", second.reasons
    assert second.miou_frozen is None
    assert second.miou_before is not None


def test_one_unreadable_file_costs_itself_and_the_round_goes_on(
    paths: StatePaths, store: Store, add_street: Any
) -> None:
    ids = add_street(store, 24)
    rig = Rig(paths, store, CONFIG)
    rig.procedure.assign_splits(CONFIG)
    split = {row["id"]: row["split"] for row in rig.rows("select id, split from samples")}
    train, gate = ([i for i in ids if split[i] == part] for part in ("train", "gate"))
    files = {row["id"]: row for row in rig.rows("select id, path, label_path from samples")}
    image = paths.root / files[train[0]]["path"]
    image.write_bytes(image.read_bytes()[:300])
    (paths.root / files[train[1]]["path"]).unlink()
    label = paths.root / files[train[2]]["label_path"]
    label.write_bytes(bytes(label.stat().st_size))
    (paths.root / files[gate[0]]["path"]).write_bytes(b"")
    outcome = rig.round()
    assert outcome.outcome in {"promoted", "rejected"}, outcome.reasons
    marked = {
        row["id"]: row["unreadable"] for row in rig.rows("select * from samples where unreadable <> ''")
    }
    assert set(marked) == {*train[:3], gate[0]}
    assert str(image) in marked[train[0]]
    assert store.snapshot().unreadable == 4
    # Nothing asks for them again.
    assert {sample.id for sample in rig.procedure.samples()} == set(ids) - set(marked)
    # A label that comes anew makes the sample whole, and so does an image that was put back at a start.
    png = images.encode_png(np.ones((48, 64), np.uint8))
    store.add_label(train[2], png, (1,), "wire").result(30)
    assert store.snapshot().unreadable == 3
    assert not any((paths.rounds / outcome.round / name).exists() for name in (jobs.LINKS, "candidate"))


def test_a_live_card_that_is_damaged_meanwhile_costs_one_request(
    paths: StatePaths, store: Store, add_street: Any
) -> None:
    add_street(store, 24)
    rig = Rig(paths, store, CONFIG)
    first_model.ensure(CONFIG, "test.toml", paths, rig.versions)
    shutil.copytree(paths.models / "v0001", paths.models / "v0002")
    rig.versions.make_live("v0002", reason="test")
    (paths.models / "v0002" / "card.json").write_bytes(b"{")
    told = rig.run()
    assert isinstance(told, str)
    assert "v0001 is live in its place" in told
    # Its folder lies there still, without a card that can be read, and is no obstacle to the next version.
    (paths.models / "v0002" / "card.json").unlink()
    outcome = rig.round()
    assert outcome.outcome in {"promoted", "rejected"}, outcome.reasons
    assert outcome.version == "v0003"
