"""A real teacher process over a real store; only time and the world around are made up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry
from round_rig import round_context
from store_fixtures import new_sample

from dance_ondevice.daemon.config.sections import Config, Labels, Model, Training
from dance_ondevice.daemon.config.sections import Energy as EnergySection
from dance_ondevice.daemon.energy import ledger
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.rounds.teaching import Teaching
from dance_ondevice.daemon.store import label_source
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.images import codec as images
from dance_ondevice.images.signature import signature
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard

pytestmark = pytest.mark.slow

CLASSES = ("dark", "bright")
SIZE = (48, 64)

#: A teacher that knows: bright pixels are the second class, the surer the farther from the middle.
TEACHER = """
import torch

class Threshold(torch.nn.Module):
    def __init__(self, sign):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(4.0 * sign))

    def forward(self, x):
        brightness = x.mean(dim=1, keepdim=True) * self.scale
        return torch.cat([-brightness, brightness], dim=1)

def good(classes):
    return Threshold(1.0)

def wrong(classes):
    return Threshold(-1.0)

def broken(classes):
    raise RuntimeError("no weights here")
"""


def frame(index: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A picture of dark and bright blocks and its label; no two alike."""
    dice = np.random.default_rng(index)
    label = np.kron(dice.integers(0, 2, (6, 8)), np.ones((8, 8))).astype(np.uint8)
    grey = np.where(label == 1, 200, 40).astype(np.uint8)
    grey[:8] = 118  # a stripe that nobody can be sure of
    return np.repeat(grey[..., None], 3, axis=2), label


@dataclass
class Rig:
    store: Store
    paths: StatePaths
    config: Config
    monotonic: float = 1000.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.context = round_context(
            self.paths, self.store, self.config, Instruments(CollectorRegistry()), lambda: self.monotonic
        )
        self.energy, self.budget, self.versions = (
            self.context.energy,
            self.context.budget,
            self.context.versions,
        )
        self.teaching = Teaching(
            self.context,
            stopping=self.stopping,
            beat=lambda: None,
        )

    def add(self, indices: range, *, labelled: bool = False) -> list[str]:
        futures = []
        for index in indices:
            image, label = frame(index)
            sample = new_sample(
                index,
                image,
                label if labelled else None,
                data=images.encode_png(image),
                format="png",
                signature=signature(np.ascontiguousarray(image[..., 0])),
            )
            futures.append(self.store.add_sample(sample))
        return [future.result(30).id for future in futures]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return self.store.submit(lambda db: list(db.query(sql))).result(30)


@pytest.fixture
def rig(
    paths: StatePaths, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Rig]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "the_teacher.py").write_text(TEACHER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))

    def make(**labels: Any) -> Rig:
        return Rig(
            store,
            paths,
            Config(
                labels=Labels(**labels),
                model=Model(classes=CLASSES, size=(SIZE[1], SIZE[0])),
                training=Training(threads=1, priority="normal"),
                energy=EnergySection(budget_joules_per_day=1e6),
            ),
        )

    return make


def test_a_teacher_is_measured_then_labels_what_it_is_sure_of_at_the_cost_of_labelling(
    rig: Callable[..., Rig],
) -> None:
    made = rig(teacher_factory="the_teacher:good", teacher_samples=12)
    truths = made.add(range(4), labelled=True)
    made.add(range(10, 26))
    made.teaching.recover()
    balance = made.budget.balance()
    made.teaching.run()

    state = made.teaching.state
    assert (state.state, state.labelled, state.failures) == ("waiting", 12, 0), state
    taught = made.rows("select * from samples where label_source = 'teacher'")
    assert len(taught) == 12
    for row in taught:
        png = (made.paths.root / row["label_path"]).read_bytes()
        mask, (_, label) = images.decode_label(png), frame(row["seq"])
        assert label_source.read(png) == "teacher"
        assert (mask[:8] == 255).all()  # too unsure to count
        np.testing.assert_array_equal(mask[8:], label[8:])
        assert 0.9 < row["label_confidence"] <= 1.0
    assert {r["label_source"] for r in made.rows(f"select * from samples where id in {tuple(truths)}")} == {
        "wire"
    }

    (run,) = made.rows("select * from labelling")
    assert (run["outcome"], run["looked_at"], run["labelled"], run["calibrated_on"]) == ("done", 12, 12, 4)
    assert run["label_agreement"] >= 0.9
    # Its joules: reserved and settled in the ledger, charged to labelling and to nothing else.
    (entry,) = made.rows("select * from ledger")
    assert entry["round_id"] == run["id"]
    assert entry["settled_joules"] == run["gross_joules"] > 0
    assert made.budget.balance() == pytest.approx(balance - run["gross_joules"], abs=50)
    used = made.energy.snapshot().workloads
    assert used["labelling"] == pytest.approx(run["joules"])
    assert used["training"] == 0.0

    # The rest is too little for another start; what it has seen is not shown again.
    made.teaching.run()
    assert "4 of 8 samples" in made.teaching.state.reason
    made.add(range(30, 36))
    made.teaching.run()
    assert made.teaching.state.labelled == 22
    assert [r["calibrated_on"] for r in made.rows("select * from labelling order by started_at")] == [4, None]


def test_a_teacher_that_disagrees_with_the_labels_labels_nothing(rig: Callable[..., Rig]) -> None:
    made = rig(teacher_factory="the_teacher:wrong")
    wrong = made.add(range(4), labelled=True)
    made.add(range(10, 20))
    made.teaching.run()
    assert (made.teaching.state.state, made.teaching.state.labelled) == ("untrusted", 0)
    assert not made.rows("select * from samples where label_source = 'teacher'")
    made.teaching.run()  # no second process is started for the same answer
    assert len(made.rows("select * from labelling")) == 1
    assert "twice as many labels" in made.teaching.state.reason
    # They were other people's mistake: once they are put right, it is measured anew.
    for index, sample in enumerate(wrong):
        made.store.add_label(sample, images.encode_png(1 - frame(index)[1]), (0, 1), "import").result(30)
    made.teaching.run()
    assert len(made.rows("select * from labelling")) == 2
    assert made.teaching.state.labelled > 0


def test_a_teacher_that_fails_says_why_and_is_tried_later_and_later(rig: Callable[..., Rig]) -> None:
    made = rig(teacher_factory="the_teacher:broken")
    made.add(range(10, 20))
    made.teaching.run()
    state = made.teaching.state
    assert (state.state, state.failures, state.retry_in_s) == ("failed", 1, 60.0)
    assert "no weights here" in state.reason
    made.teaching.run()
    assert len(made.rows("select * from labelling")) == 1
    made.monotonic += 61.0
    made.teaching.run()
    assert (made.teaching.state.failures, made.teaching.state.retry_in_s) == (2, 120.0)
    assert not made.rows("select * from ledger where closed_at is null")


def test_without_labels_the_configured_confidence_holds(rig: Callable[..., Rig]) -> None:
    made = rig(teacher_factory="the_teacher:good", teacher_confidence=0.6)
    made.add(range(10, 20))
    made.teaching.run()
    (run,) = made.rows("select * from labelling")
    assert (run["calibrated_on"], run["label_agreement"], run["labelled"]) == (0, None, 10)


def test_joules_that_labelling_may_not_spend_keep_it_from_starting(rig: Callable[..., Rig]) -> None:
    made = rig(teacher_factory="the_teacher:good", budget_share=0.0)
    made.add(range(10, 20))
    made.teaching.run()
    assert made.teaching.state.state == "waiting"
    assert "labels.budget_share" in made.teaching.state.reason
    assert not made.rows("select * from labelling")


def test_a_calendar_that_jumps_neither_forgets_nor_blocks_the_share_of_labelling(
    rig: Callable[..., Rig],
) -> None:
    made = rig(teacher_factory="the_teacher:good", budget_share=0.5)
    made.add(range(10, 20))
    day = made.config.energy.budget_joules_per_day
    made.budget.reserve("labelling-1", day / 2, labelling=True)
    made.budget.settle("labelling-1", gross=day / 2, attributed=0.0, method="modelled")
    made.context.now = lambda: time.time() + 10**8
    made.teaching.run()
    assert "0 J are left" in made.teaching.state.reason
    assert not made.rows("select * from labelling")


def test_a_stop_ends_the_process_and_pays_for_it(rig: Callable[..., Rig]) -> None:
    made = rig(teacher_factory="the_teacher:good")
    made.add(range(10, 20))
    made.stopping.set()
    made.teaching.run()
    (run,) = made.rows("select * from labelling")
    assert (run["outcome"], run["reason"]) == ("stopped", "the daemon is stopping")
    assert not made.rows("select * from ledger where closed_at is null")


def test_what_a_crash_left_open_is_closed(rig: Callable[..., Rig]) -> None:
    made = rig()
    made.store.submit(
        lambda db: db.execute(
            "insert into labelling (id, started_at, teacher) values ('labelling-1', 1, 't')"
        )
    ).result(30)
    made.budget.reserve("labelling-1", 100.0)
    made.teaching.recover()
    made.store.submit(lambda db: ledger.settle_crashed(db, 2.0)).result(30)
    (run,) = made.rows("select * from labelling")
    assert run["outcome"] == "failed"
    made.teaching.run()
    assert made.teaching.state.state == "off"


def threshold(sign: float) -> torch.nn.Module:
    scope: dict[str, Any] = {}
    exec(TEACHER, scope)  # the text above
    module: torch.nn.Module = scope["Threshold"](sign)
    return module


def adopt_live(made: Rig, sign: float, tmp_path: Path) -> None:
    card = ModelCard(classes=CLASSES, macs_at=SIZE, factory="the_teacher:good")
    checkpoint.save(tmp_path / "live", threshold(sign), card)
    version = made.versions.adopt(tmp_path / "live", status="live", round_id=None, changes={})
    made.versions.make_live(version, reason="test")


def test_self_training_waits_for_labels_and_is_marked_as_its_own(
    rig: Callable[..., Rig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    made = rig(self_training=True)
    adopt_live(made, 1.0, tmp_path)
    made.add(range(10, 20))
    made.teaching.run()
    assert "measured on" in made.teaching.state.reason
    made.add(range(4), labelled=True)
    made.teaching.run()
    assert made.teaching.state.labelled == 10, made.teaching.state
    assert len(made.rows("select * from samples where label_source = 'self'")) == 10
    (run,) = made.rows("select * from labelling")
    assert run["agreement_with_teacher"] is None  # with itself it would be 1, and mean nothing


def test_an_onnx_teacher_and_what_the_live_model_makes_of_it(
    rig: Callable[..., Rig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    # A convolution of one pixel does what the module above does; its classes come in another order.
    weights = np.zeros((2, 3, 1, 1), np.float32)
    weights[0], weights[1] = 4 / 3, -4 / 3
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "teacher",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, "h", "w_"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2, "h", "w_"])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"classes": '["bright", "dark"]'})
    file = tmp_path / "teacher.onnx"
    onnx.save(model, str(file))
    made = rig(teacher=str(file))
    adopt_live(made, -1.0, tmp_path)  # says the opposite of the teacher everywhere
    made.add(range(4), labelled=True)
    made.add(range(10, 20))
    made.teaching.run()
    assert made.teaching.state.labelled == 10, made.teaching.state
    (run,) = made.rows("select * from labelling")
    assert run["agreement_with_teacher"] == pytest.approx(0.0)
    assert run["label_agreement"] == pytest.approx(1.0)
    (row,) = made.rows("select * from samples where seq = 10")
    mask = images.decode_label((made.paths.root / row["label_path"]).read_bytes())
    np.testing.assert_array_equal(mask[8:], frame(10)[1][8:])
    assert row["uncertainty"] is not None


def test_a_new_teacher_is_asked_at_once(rig: Callable[..., Rig]) -> None:
    made = rig(teacher_factory="the_teacher:broken")
    made.add(range(10, 20))
    made.teaching.run()
    other = msgspec.structs.replace(made.config, labels=Labels(teacher_factory="the_teacher:good"))
    made.teaching._c.config = other  # as a reload of the configuration does
    made.teaching.run()
    assert (made.teaching.state.state, made.teaching.state.labelled) == ("waiting", 10)
