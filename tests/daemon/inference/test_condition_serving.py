"""Conditions with a real model on the synthetic street, frame by frame and through the running predictor."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import zmq
from estimating import NoAccount, estimating, shapes_of
from prometheus_client import CollectorRegistry
from torch import Tensor, nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions.arrays import CONDITIONS_FILE
from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.inference import condition_sets
from dance_ondevice.daemon.inference.condition_serving import ConditionServing, VersionConditions
from dance_ondevice.daemon.inference.estimation import Estimation
from dance_ondevice.daemon.inference.service import Predictor
from dance_ondevice.daemon.ingest.mailbox import LatestFrames, PendingFrame
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.publisher import MaskPublisher
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images import codec as images
from dance_ondevice.images.masks import Prediction
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import channels_last, predict
from dance_ondevice.policies.stream.condition_gate import Verdict
from dance_ondevice.runtime.torch_server import TorchServer

SIZE = (48, 64)
CARD = ModelCard(classes=("road", "sky", "car"), macs_at=SIZE)
SETTINGS = sections.Conditions(min_frames=8)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def street(condition: str, start: int, count: int) -> list[np.ndarray]:
    camera = StreetCamera(seed=1, height=SIZE[0], width=SIZE[1])
    return [camera.render(start + index, condition)[0] for index in range(count)]


DAY, DUSK = street("day", 0, 40), street("dusk", 40, 45)


class Everything:
    """Serves frames with everything that belongs to it, on the test's own thread."""

    def __init__(self, folder: Path, model: nn.Module, settings: sections.Conditions = SETTINGS) -> None:
        self.registry = CollectorRegistry()
        self.model = model
        self.folder = folder
        self.serving = ConditionServing(settings, instruments=Instruments(self.registry), now=lambda: 5.0)
        self.version = self.enter(folder, model)

    def enter(self, folder: Path, model: nn.Module, card: ModelCard = CARD) -> VersionConditions:
        folder.mkdir(exist_ok=True)
        self.version = VersionConditions(
            folder,
            card,
            TorchServer(model, card.normalisation, size=SIZE),
            shapes_of(model),
            probation_every=2,
            estimate=estimating(model),
        )
        self.serving.enter(self.version)
        return self.version

    def show(self, frames: list[np.ndarray], camera: str = "front", *, work: bool = True) -> list[Prediction]:
        found = []
        for image in frames:
            found.append(self.serving.predict(camera, image, 0.2, out_size=SIZE, label=None, n_classes=3))
            if work:
                self.serving.work()
        return found

    def known(self) -> dict[str, str]:
        return self.serving.report()["known"]


class Tiny(nn.Module):
    """Tells classes apart by what a handful of normalised filters see."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.relu(self.norm(self.conv(x))))
        return out


def small(width: int = 8) -> Tiny:
    return Tiny(width).eval()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Have every probation end at its eighth frame in the same way."""

    def decide(keep: bool) -> None:
        monkeypatch.setattr(
            condition_sets.condition_gate,
            "judge",
            lambda rules, new, old: Verdict(keep, "told to") if new.frames == 8 else None,
        )

    return decide


def test_an_untrained_network_gets_no_conditions(tmp_path: Path, always: Callable[[bool], None]) -> None:
    always(True)
    model = small()
    rig = Everything(tmp_path, model)
    rig.enter(tmp_path, model, replace(CARD, training={"untrained": True}))
    rig.show([*DAY, *DUSK])
    assert rig.known() == {"base": "own"}
    assert "untrained" in rig.serving.report()["note"]
    # Once something was learnt, the same light opens one.
    rig.enter(tmp_path / "learnt", model)
    rig.show([*DAY, *DUSK])
    assert rig.known() == {"base": "own", "c1": "live"}
    rig.serving.close()


def test_the_day_keeps_its_masks_bit_for_bit_while_dusk_gets_its_own(
    tmp_path: Path, always: Callable[[bool], None]
) -> None:
    always(True)
    model = small()
    frozen = [predict(model, image, CARD.normalisation) for image in (DAY[0], DUSK[-1])]
    rig = Everything(tmp_path, model)
    assert np.array_equal(rig.show(DAY)[0].mask, frozen[0].mask)
    # 8 frames to open and to estimate from, 16 frames of probation with every other one a trial.
    dusk = rig.show(DUSK)
    assert rig.known() == {"base": "own", "c1": "live"}
    assert rig.serving.condition_of("front") == "c1"
    assert dusk[-1].mean_confidence != frozen[1].mean_confidence
    again = rig.show([DAY[0]] * 4)[-1]
    assert rig.serving.condition_of("front") == "base"
    assert np.array_equal(again.mask, frozen[0].mask)
    assert again.mean_confidence == frozen[0].mean_confidence
    rig.serving.close()


def test_what_is_refused_never_serves_again(tmp_path: Path, always: Callable[[bool], None]) -> None:
    always(False)
    model = small()
    frozen = predict(model, DUSK[-1], CARD.normalisation)
    rig = Everything(tmp_path, model)
    rig.show(DAY)
    served = rig.show(DUSK)
    assert rig.known() == {"base": "own", "c1": "refused"}
    assert served[-1].mean_confidence == frozen.mean_confidence
    rig.serving.close()
    # Nor after a restart, and it is not estimated again.
    later = Everything(tmp_path, small())
    later.show(DUSK[:20])
    assert later.known() == {"base": "own", "c1": "refused"}
    later.serving.close()


def test_on_probation_new_statistics_serve_their_share_and_are_tried_against_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condition_sets.condition_gate, "judge", lambda rules, new, old: None)
    model = small()
    base = conditions.capture(model)
    rig = Everything(tmp_path, model)
    rig.show(DAY)
    rig.show(DUSK[:30])
    assert rig.known()["c1"] == "probation"
    image = DUSK[40]
    served = rig.show([image] * 8)
    conditions.apply(model, base)
    own = predict(model, image, CARD.normalisation).mean_confidence
    assert sorted(prediction.mean_confidence == own for prediction in served) == [False] * 4 + [True] * 4
    rig.serving.close()


def test_a_restart_goes_on_where_it_was(tmp_path: Path, always: Callable[[bool], None]) -> None:
    always(True)
    model = small()
    weights = model.state_dict()
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    rig = Everything(tmp_path, model)
    rig.show(DAY)
    before = rig.show(DUSK)[-1]
    rig.serving.close()
    assert (tmp_path / CONDITIONS_FILE).is_file()
    again = small()
    again.load_state_dict(weights)
    later = Everything(tmp_path, again)
    assert later.known() == {"base": "own", "c1": "live"}
    assert later.serving.condition_of("front") == "c1"
    after = later.show(DUSK[-1:])[-1]
    assert np.array_equal(after.mask, before.mask)
    assert after.mean_confidence == before.mean_confidence
    later.serving.close()


def test_a_new_version_serves_with_its_own_until_its_conditions_are_estimated(
    tmp_path: Path, always: Callable[[bool], None]
) -> None:
    always(True)
    rig = Everything(tmp_path / "v1", small())
    rig.show(DAY)
    rig.show(DUSK)
    slimmer = small(4)
    own = predict(slimmer, DUSK[-1], CARD.normalisation).mean_confidence
    rig.enter(tmp_path / "v2", slimmer)
    assert rig.known() == {"base": "own", "c1": "waiting"}
    assert rig.show(DUSK[-1:], work=False)[0].mean_confidence == own
    # The frames are still at hand: no need to wait for new ones.
    assert rig.serving.work()
    assert rig.known()["c1"] == "probation"
    rig.show(DUSK[-20:])
    assert rig.known()["c1"] == "live"
    rig.serving.close()
    assert (tmp_path / "v1" / CONDITIONS_FILE).is_file()
    assert (tmp_path / "v2" / CONDITIONS_FILE).is_file()


@pytest.mark.parametrize("data", [b"junk", b""])
def test_a_damaged_file_costs_the_conditions_alone(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / CONDITIONS_FILE).write_bytes(data)
    rig = Everything(tmp_path, small())
    assert "conditions not taken over" in caplog.text
    rig.show(DAY[:3])
    assert rig.known() == {"base": "own"}
    rig.serving.close()


def test_statistics_of_another_model_are_not_taken_over(
    tmp_path: Path, always: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    always(True)
    rig = Everything(tmp_path, small())
    rig.show(DAY)
    rig.show(DUSK)
    rig.serving.close()
    other = small(4)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    later = Everything(tmp_path, other)
    assert "do not fit batch norm" in caplog.text
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
    later.serving.close()


class Bare(nn.Module):
    """A model of the user's without batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


def test_a_model_without_batch_norm_says_so_and_still_has_conditions_told_apart(tmp_path: Path) -> None:
    rig = Everything(tmp_path, Bare().eval())
    rig.show(DAY)
    rig.show(DUSK)
    assert rig.serving.condition_of("front") == "c1"
    assert rig.known() == {"base": "own", "c1": "waiting"}
    assert "no batch norm" in rig.serving.report()["note"]
    rig.serving.close()


class Fussy(nn.Module):
    """Runs in inference, and fails where batch norm uses the batch's own statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm.training:
            raise RuntimeError("not like this")
        out: Tensor = self.conv(self.norm(x))
        return out


def test_a_model_that_cannot_be_estimated_goes_on_serving(tmp_path: Path) -> None:
    model = Fussy().eval()
    rig = Everything(tmp_path, model)
    rig.show(DAY)
    rig.show(DUSK)
    assert rig.known() == {"base": "own", "c1": "refused"}
    assert not model.norm.training
    rig.serving.close()


def test_switched_off_there_is_one_condition_and_drift_is_still_watched(tmp_path: Path) -> None:
    rig = Everything(tmp_path, small(), sections.Conditions(enabled=False))
    rig.show(DAY)
    rig.show(DUSK)
    assert rig.known() == {"base": "own"}
    assert rig.serving.snapshot().alarm_count > 0
    assert "conditions.enabled" in rig.serving.report()["note"]
    rig.serving.close()
    assert not (tmp_path / CONDITIONS_FILE).exists()


def test_alarms_are_numbered_and_counted_by_camera_and_signal(tmp_path: Path) -> None:
    rig = Everything(tmp_path, Bare().eval())
    rig.show(DAY)
    before = rig.serving.snapshot()
    rig.show(DUSK)
    after = rig.serving.snapshot()
    new = after.alarms_since(before.alarm_count)
    assert [alarm.number for alarm in new] == list(range(before.alarm_count + 1, after.alarm_count + 1))
    assert {"tint", "contrast"} <= {alarm.signal for alarm in new}
    assert {(alarm.camera, alarm.at) for alarm in new} == {("front", 5.0)}
    counted = rig.registry.get_sample_value("dance_drift_alarms_total", {"camera": "front", "signal": "tint"})
    assert counted == sum(alarm.signal == "tint" for alarm in after.alarms)
    assert rig.registry.get_sample_value("dance_condition_switches_total") == after.switches == 1
    rig.serving.close()


def pending(seq: int, image: np.ndarray) -> PendingFrame:
    return PendingFrame(
        id=f"front-{seq}",
        camera="front",
        seq=seq,
        captured_at=1.5,
        received=0.0,
        data=image.tobytes(),
        info=None,
        raw_shape=image.shape,
        scale=1.0,
        label=None,
        score=0.2,
    )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Predictor, Callable[[int, np.ndarray], bytes]]]:
    """A real predictor that answers one frame at a time with its mask."""
    first_model.main(["fastscnn", "", '["road", "sky", "car"]', "0", "64", "48", str(tmp_path / "v1")])
    card = tmp_path / "v1" / "card.json"  # as of a network that has learnt: others get no conditions
    card.write_text(json.dumps(json.loads(card.read_bytes()) | {"training": {}}))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    mailbox = LatestFrames()
    predictor = Predictor(
        mailbox=mailbox,
        masks=partial(MaskPublisher, context, "tcp://127.0.0.1:*"),
        instruments=Instruments(CollectorRegistry()),
        threads=1,
        conditions=sections.Conditions(min_frames=8, probation_every=2),
        estimation=Estimation(tmp_path / ".estimation", NoAccount(), priority="normal"),
    )
    predictor.start()
    predictor.prepare(tmp_path / "v1")()
    subscriber = context.socket(zmq.SUB)
    subscriber.linger = 0
    subscriber.subscribe(b"mask/")
    subscriber.connect(predictor.endpoint)
    subscriber.rcvtimeo = 30_000

    def ask(seq: int, image: np.ndarray) -> bytes:
        mailbox.offer(pending(seq, image))
        while True:
            message = wire.parse_mask(subscriber.recv_multipart())
            if message.header.seq == seq:
                return message.png

    # A subscription takes a moment to arrive: frames are offered until a first mask comes back.
    while not subscriber.poll(100):
        mailbox.offer(pending(-1, DAY[0]))
    yield predictor, ask
    assert predictor.stop(20)
    assert predictor.failure is None
    subscriber.close()
    context.term()


@pytest.mark.slow
def test_the_running_predictor_opens_a_condition_and_gives_the_day_back_unchanged(
    running: tuple[Predictor, Callable[[int, np.ndarray], bytes]], tmp_path: Path
) -> None:
    predictor, ask = running
    model, card = checkpoint.load(tmp_path / "v1")
    expected = predict(channels_last(model), DAY[5], card.normalisation).mask
    for seq, image in enumerate(DAY):
        before = ask(seq, image)
    before = ask(100, DAY[5])
    assert np.array_equal(images.decode_label(before), expected)
    for seq in itertools.count(200):
        ask(seq, DUSK[seq % len(DUSK)])
        # The child estimates beside the frames, which nobody waits for.
        if predictor.conditions.report()["known"].get("c1") in ("live", "refused"):
            break
    report = predictor.conditions.report()
    assert report["cameras"] == {"front": "c1"}
    assert predictor.conditions.condition_of("front") == "c1"
    for seq in range(4):
        after = ask(100_000 + seq, DAY[5])
    assert predictor.conditions.condition_of("front") == "base"
    assert after == before
