"""A version that a condition has learnt serves at once, and nothing that was known is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from condition_models import SIZE, about, dusk_statistics, write_version
from estimating import estimating
from prometheus_client import CollectorRegistry

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions import store as condition_store
from dance_ondevice.conditions.arrays import CONDITIONS_FILE, shapes_in
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.inference.condition_serving import ConditionServing, VersionConditions
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.versions import condition_file
from dance_ondevice.daemon.versions.condition_file import Known
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import encode_png
from dance_ondevice.images.labels import STREET_CLASSES as CLASSES
from dance_ondevice.images.masks import Prediction, decide_on_half_grid
from dance_ondevice.models import checkpoint
from dance_ondevice.models.forward import predict
from dance_ondevice.policies.stream.conditions import CameraState, State
from dance_ondevice.runtime.engines import EngineName
from dance_ondevice.runtime.serving import GraphServer, Server
from dance_ondevice.runtime.serving_graph import graph_of
from dance_ondevice.runtime.torch_server import TorchServer

pytestmark = pytest.mark.slow

IMAGE = StreetCamera(seed=1, height=SIZE[0], width=SIZE[1]).render(3, "dusk")[0]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def serving() -> Iterator[ConditionServing]:
    found = ConditionServing(
        sections.Conditions(), instruments=Instruments(CollectorRegistry()), now=lambda: 5.0
    )
    yield found
    found.close()


def at_dusk(text: str) -> str:
    """The camera ``front`` is in c1."""
    told = condition_file.about_of(text)
    state = msgspec.json.decode(told.state, type=State)
    state = State(
        conditions=state.conditions,
        cameras={"front": CameraState(current="c1"), "yard": CameraState(current="base")},
        founder="front",
        opened=state.opened,
    )
    told = msgspec.structs.replace(told, state=msgspec.Raw(msgspec.json.encode(state)))
    return msgspec.json.encode(told).decode()


def version(folder: Path, *names: str, learnt: bool = False) -> Path:
    """A version whose file holds these conditions; c1 has learnt layers of its own if ``learnt``."""
    write_version(folder, learnt=learnt, classes=CLASSES)
    sets, _ = condition_store.load_conditions(folder)
    model, _ = checkpoint.load(folder)
    found = {"c1": sets["c1"]} | {name: dusk_statistics(model) for name in names if name != "c1"}
    text = at_dusk(about({"c1": "base", "c2": "c1", "c3": "base"}))
    (folder / CONDITIONS_FILE).write_bytes(condition_store.encode(found, text))
    return folder


def loaded(folder: Path, engine: EngineName = "torch") -> VersionConditions:
    model, card = checkpoint.load(folder)
    server: Server = TorchServer(model, card.normalisation, size=SIZE)
    if engine != "torch":
        server = GraphServer(graph_of(model, SIZE), engine, card.normalisation, threads=1)
    return VersionConditions(
        folder, card, server, shapes_in(folder), probation_every=4, estimate=estimating(model)
    )


def show(serving: ConditionServing, camera: str) -> Prediction:
    return serving.predict(camera, IMAGE, 0.2, out_size=SIZE, label=None, n_classes=len(CLASSES))


def as_it_should_be(folder: Path, condition: str) -> Prediction:
    model, card = checkpoint.load(folder)
    if condition != "base":
        conditions.apply(model, condition_store.load_conditions(folder)[0][condition])
    return predict(model, IMAGE, card.normalisation, out_size=SIZE, by=decide_on_half_grid)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_what_was_learnt_serves_from_the_next_frame_on_and_only_there(
    tmp_path: Path, serving: ConditionServing, engine: EngineName
) -> None:
    pytest.importorskip(engine)
    before, after = version(tmp_path / "v1", "c1"), version(tmp_path / "v2", "c1", learnt=True)
    expected = {
        (folder.name, name): as_it_should_be(folder, name)
        for folder in (before, after)
        for name in ("base", "c1")
    }
    assert expected["v1", "c1"].mean_confidence != expected["v2", "c1"].mean_confidence
    # There, back by a rollback, and there again: each time with the state of the cameras kept.
    for folder in (before, after, before, after):
        serving.enter(loaded(folder, engine))
        for camera, name in (("front", "c1"), ("yard", "base"), ("front", "c1"), ("yard", "base")):
            assert serving.condition_of(camera) == name
            found, wanted = show(serving, camera), expected[folder.name, name]
            # Merged layers round otherwise.
            assert np.mean(found.mask == wanted.mask) > 0.999
            assert found.mean_confidence == pytest.approx(wanted.mean_confidence, abs=1e-5)
    assert serving.report()["known"]["c1"] == "live"


def test_a_set_that_came_meanwhile_goes_along_where_the_model_is_the_same(
    tmp_path: Path, serving: ConditionServing
) -> None:
    serving.enter(loaded(version(tmp_path / "v1", "c1", "c3")))
    serving.enter(loaded(version(tmp_path / "v2", "c1", learnt=True)))
    assert serving.report()["known"] == {"base": "own", "c1": "live", "c2": "waiting", "c3": "live"}
    # Back to a version that never knew c1: its statistics come along, what it has learnt does not.
    back = version(tmp_path / "v0", "c3")
    sets, text = condition_store.load_conditions(back)
    (back / CONDITIONS_FILE).write_bytes(condition_store.encode({"c3": sets["c3"]}, text))
    old = loaded(back)
    serving.enter(old)
    live, _ = old.sets.judged()
    assert set(live) == {"c1", "c3"}
    assert not live["c1"].learnt
    # Of another model they are of no use.
    other = version(tmp_path / "v3", "c1", learnt=True)
    model, card = checkpoint.load(other)
    next(model.parameters()).data += 1.0
    checkpoint.save(other, model, card)
    serving.enter(loaded(other))
    assert serving.report()["known"]["c3"] == "waiting"


def test_a_condition_is_estimated_with_the_models_own_layers(tmp_path: Path) -> None:
    version_of = loaded(version(tmp_path / "v1", "c1", learnt=True))
    sets = version_of.sets
    frames = [StreetCamera(seed=2, height=SIZE[0], width=SIZE[1]).render(i, "rain")[0] for i in range(4)]
    sets.predict(IMAGE, "c1", "base", out_size=SIZE, label=None)  # what c1 learnt is in the server now
    assert sets.work(["c3"], lambda _: [encode_png(frame) for frame in frames])
    assert sets.statuses()["c3"] == "probation"
    model, card = checkpoint.load(tmp_path / "v1")
    expected = conditions.estimate(model, frames, card.normalisation, blend=conditions.trust(4), batch_size=1)
    found = sets._sets["c3"].arrays
    assert not found.learnt
    for name, layer in expected.layers.items():
        for one, other in zip(layer, found.layers[name], strict=True):
            torch.testing.assert_close(one, torch.from_numpy(other))
    live, _ = sets.judged()
    assert set(live) == {"c1"}
    assert live["c1"].learnt


def test_what_learnt_for_another_model_is_not_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = version(tmp_path / "v1", "c1", learnt=True)
    sets, text = condition_store.load_conditions(folder)
    wrong = NormStatistics(sets["c1"].layers, {"classifier.9.weight": torch.ones(2)})
    (folder / CONDITIONS_FILE).write_bytes(condition_store.encode({"c1": wrong}, text))
    found = loaded(folder)
    assert "conditions not taken over" in caplog.text
    assert found.sets.statuses() == {}


def test_the_file_is_read_without_torch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = version(tmp_path / "v1", "c1", learnt=True)
    assert condition_file.CONDITIONS_FILE == CONDITIONS_FILE
    known = condition_file.read(folder)
    parents = {"base": "base", "c1": "base", "c2": "c1", "c3": "base"}
    assert known == Known(frozenset({"c1"}), parents, opened=3)
    assert [known.serving(name) for name in ("c1", "c2", "c3", "")] == ["c1", "c1", "base", "base"]
    assert condition_file.read(tmp_path) == Known()
    assert not caplog.records
    for data in (b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]"):
        (folder / CONDITIONS_FILE).write_bytes(data)
        assert condition_file.read(folder) == Known()
    assert caplog.text.count("conditions not read") == 3
