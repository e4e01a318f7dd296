"""Inference with a real model, a real mailbox and real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zmq
from prometheus_client import CollectorRegistry

from dance_ondevice.conditions.arrays import ConditionArrays
from dance_ondevice.daemon.inference import service
from dance_ondevice.daemon.inference.condition_sets import NotFinite
from dance_ondevice.daemon.inference.service import FAILURES_IN_A_ROW, Predictor
from dance_ondevice.daemon.ingest.mailbox import LatestFrames, PendingFrame
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.messages import MaskHeader
from dance_ondevice.daemon.wire.publisher import MaskPublisher
from dance_ondevice.daemon.wire.receiver import AddressInUse
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images import codec as images
from dance_ondevice.images import headers as image_headers
from dance_ondevice.images.labels import class_colours
from dance_ondevice.images.masks import Prediction
from dance_ondevice.models.card import CheckpointError
from dance_ondevice.runtime.torch_server import TorchServer

pytestmark = pytest.mark.slow

CLASSES = '["road", "sky", "car"]'


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    for seed in ("0", "1"):
        first_model.main(["fastscnn", "", CLASSES, seed, "64", "48", str(folder / seed)])
    return [folder / "0", folder / "1"]


@pytest.fixture
def rig(
    models: list[Path],
) -> Iterator[tuple[Predictor, LatestFrames, Callable[[], tuple[MaskHeader, bytes]]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    mailbox = LatestFrames()
    predictor = Predictor(
        mailbox=mailbox,
        masks=partial(MaskPublisher, context, "tcp://127.0.0.1:*"),
        instruments=Instruments(CollectorRegistry()),
        threads=1,
        reuse=True,  # frames without a grey image are not concerned
    )
    predictor.start()
    predictor.prepare(models[0])()
    subscriber = context.socket(zmq.SUB)
    subscriber.linger = 0
    subscriber.subscribe(b"mask/")
    subscriber.connect(predictor.endpoint)
    # A subscription takes a moment to arrive: frames are offered until a first mask comes back.
    while not subscriber.poll(100):
        mailbox.offer(frame(0, np.zeros((8, 8, 3), np.uint8), camera="hello"))
    subscriber.rcvtimeo = 30_000

    def receive() -> tuple[MaskHeader, bytes]:
        while True:
            message = wire.parse_mask(subscriber.recv_multipart())
            if message.header.camera != "hello":
                return message.header, message.png

    yield predictor, mailbox, receive
    assert predictor.stop(20)
    assert predictor.failure is None
    subscriber.close()
    context.term()


def frame(
    seq: int, image: np.ndarray, *, camera: str = "front", scale: float = 1.0, raw: bool = False,
    label: np.ndarray | None = None,
) -> PendingFrame:  # fmt: skip
    data = image.tobytes() if raw else images.encode_png(image)
    return PendingFrame(
        id=f"{camera}-{seq}",
        camera=camera,
        seq=seq,
        captured_at=1.5,
        received=0.0,
        data=data,
        info=None if raw else image_headers.probe(data),
        raw_shape=image.shape if raw else None,
        scale=scale,
        label=None if label is None else images.encode_png(label),
    )


def test_a_mask_is_repeated_while_nothing_changes_and_never_by_another_version(
    rig: tuple, models: list[Path]
) -> None:
    predictor, mailbox, receive = rig
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)

    def answer(seq: int) -> MaskHeader:
        mailbox.offer(replace(frame(seq, image), grey=image[..., 0]))
        return receive()[0]

    found = [answer(seq) for seq in range(8)]
    assert [header.seq for header in found] == list(range(8))
    assert found[-1].repeated
    assert not found[0].repeated
    assert len({header.mean_confidence for header in found}) == 1
    predictor.prepare(models[1])()
    assert [answer(seq).repeated for seq in (8, 9)] == [False, True]


@pytest.mark.parametrize("raw", [False, True], ids=["png", "raw"])
@pytest.mark.parametrize("scale", [1.0, 0.75, 0.5])
def test_masks_have_the_size_of_the_frame_whatever_it_is(rig: tuple, raw: bool, scale: float) -> None:
    _, mailbox, receive = rig
    rng = np.random.default_rng(0)
    for seq, shape in enumerate([(1, 1, 3), (13, 17, 3), (97, 61, 3), (48, 64, 3)]):
        mailbox.offer(frame(seq, rng.integers(0, 256, shape, np.uint8), scale=scale, raw=raw))
        header, png = receive()
        assert (header.camera, header.seq, header.scale) == ("front", seq, scale)
        assert images.decode_label(png).shape == shape[:2]
        assert 0.0 < header.mean_confidence <= 1.0


def test_whoever_subscribes_is_told_the_classes_and_their_colours(rig: tuple, models: list[Path]) -> None:
    predictor, mailbox, receive = rig
    mailbox.offer(frame(1, np.zeros((16, 16, 3), np.uint8)))
    receive()
    with zmq.Context() as context, context.socket(zmq.SUB) as late:
        late.linger, late.rcvtimeo = 0, 30_000
        late.subscribe(b"classes/front")
        late.connect(predictor.endpoint)
        topic, told = late.recv_multipart()
        first = json.loads(told)
        predictor.prepare(models[1])()
        # Of a new version it is said before its first mask.
        mailbox.offer(frame(2, np.zeros((16, 16, 3), np.uint8)))
        again = json.loads(late.recv_multipart()[1])

    assert topic == b"classes/front"
    assert first == {
        "v": 1,
        "camera": "front",
        "model_version": "untrained",
        "classes": ["road", "sky", "car"],
        "palette": [list(colour) for colour in class_colours(3)],
    }
    assert again["classes"] == first["classes"]


def test_a_sender_that_changes_its_name_does_not_fill_the_memory(rig: tuple) -> None:
    predictor, mailbox, receive = rig
    for seq in range(70):
        mailbox.offer(frame(seq, np.zeros((8, 8, 3), np.uint8), camera=f"cam{seq}"))
        receive()
    assert len(predictor._output._explained) == 64
    assert len(predictor.conditions._used) == 64


def test_a_swap_takes_effect_with_the_next_frame(rig: tuple, models: list[Path]) -> None:
    predictor, mailbox, receive = rig
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    mailbox.offer(frame(1, image))
    before = receive()
    predictor.prepare(models[1])()
    mailbox.offer(frame(2, image))
    after = receive()
    assert (before[0].seq, after[0].seq) == (1, 2)
    assert before[1] != after[1]


def test_memory_is_given_back_after_a_swap_and_not_after_each_frame(
    rig: tuple, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, mailbox, receive = rig
    image = np.zeros((48, 64, 3), np.uint8)
    threads: list[str] = []
    mailbox.offer(frame(0, image))
    receive()  # by now the first model was tidied up after
    for module in ("service", "slots"):
        monkeypatch.setattr(
            f"dance_ondevice.daemon.inference.{module}.trim",
            lambda: threads.append(threading.current_thread().name),
        )
    for seq in range(1, 3):
        mailbox.offer(frame(seq, image))
        receive()
    assert not threads
    predictor.prepare(models[1])()
    for seq in range(3, 6):
        mailbox.offer(frame(seq, image))
        receive()
    # What loading took goes on the thread that loaded; the model of before, once frames have left it.
    assert threads == [threading.current_thread().name, "inference"]


def test_memory_is_given_back_once_after_an_estimation(rig: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, mailbox, receive = rig
    image = np.zeros((48, 64, 3), np.uint8)
    mailbox.offer(frame(0, image))
    receive()
    slices, events = iter([True, True]), list[str]()
    # Two slices of an estimation, and then there is nothing more to do.
    monkeypatch.setattr(predictor.conditions, "work", lambda: events.append("work") or next(slices, False))
    monkeypatch.setattr("dance_ondevice.daemon.inference.service.trim", lambda: events.append("trim"))
    for seq in range(1, 7):
        mailbox.offer(frame(seq, image))
        receive()
    assert events[:4] == ["work", "work", "work", "trim"]
    assert events.count("trim") == 1


def test_a_model_that_does_not_load_leaves_the_old_one_serving(rig: tuple, tmp_path: Path) -> None:
    predictor, mailbox, receive = rig
    serving = predictor.version
    with pytest.raises(CheckpointError):
        predictor.prepare(tmp_path)
    mailbox.offer(frame(1, np.zeros((8, 8, 3), np.uint8)))
    assert receive()[0].model_version == serving


def test_a_frame_that_does_not_decode_costs_only_itself(rig: tuple) -> None:
    _, mailbox, receive = rig
    good = frame(2, np.zeros((8, 8, 3), np.uint8))
    broken = frame(1, np.zeros((8, 8, 3), np.uint8), camera="broken")
    object.__setattr__(broken, "data", broken.data[:-20])
    mailbox.offer(broken)
    mailbox.offer(good)
    assert receive()[0].camera == "front"


def test_labelled_frames_are_scored_before_anything_learns_from_them(rig: tuple) -> None:
    predictor, mailbox, receive = rig
    assert predictor.prequential_miou is None
    image = np.zeros((16, 16, 3), np.uint8)
    mailbox.offer(frame(1, image))
    mask = images.decode_label(receive()[1])
    mailbox.offer(frame(2, image, label=mask))
    receive()
    mailbox.offer(frame(3, image))
    receive()
    assert predictor.prequential_miou == 1.0
    mailbox.offer(frame(4, image, label=(mask + 1) % 3))
    receive()
    mailbox.offer(frame(5, image))
    receive()
    assert 0.0 < predictor.prequential_miou < 0.6


def test_an_address_in_use_names_the_key(rig: tuple) -> None:
    predictor, mailbox, _ = rig
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    second = Predictor(
        mailbox=mailbox,
        masks=partial(MaskPublisher, context, predictor.endpoint),
        instruments=Instruments(CollectorRegistry()),
        threads=1,
    )
    with pytest.raises(AddressInUse, match=r"inference\.publish"):
        second.start()
    second.stop()
    context.term()


def fail_on(predictor: Predictor, monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[int]:
    """Make the model that serves fail on every frame; returns a list that grows by one for each."""
    sets = predictor._slot.conditions.sets  # type: ignore[union-attr]
    failed: list[int] = []

    def predict(*_args: object, **_named: object) -> object:
        failed.append(1)
        raise error

    monkeypatch.setattr(sets, "predict", predict)
    return failed


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
        NotFinite("nan"),
        KeyError(1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_frame_that_the_model_fails_on_is_lost_and_the_next_one_answered(
    rig: tuple, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    predictor, mailbox, receive = rig
    image = np.zeros((48, 64, 3), np.uint8)
    with monkeypatch.context() as patch:
        failed = fail_on(predictor, patch, error)
        mailbox.offer(frame(1, image))
        while not failed:
            mailbox.offer(frame(1, image, camera="hello"))
    mailbox.offer(frame(2, image))
    assert receive()[0].seq in (1, 2)  # the first was lost, or answered before the model failed
    assert predictor.alive
    assert predictor.failed >= 1


def test_many_failures_in_a_row_ask_for_an_earlier_version_that_does_better(
    rig: tuple, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, mailbox, receive = rig
    image = np.zeros((48, 64, 3), np.uint8)
    asked = threading.Event()
    monkeypatch.setattr(predictor, "_fall_back", asked.set)
    failed = fail_on(predictor, monkeypatch, RuntimeError("no such layer"))
    while not asked.is_set():
        mailbox.offer(frame(1, image))
    assert len(failed) >= FAILURES_IN_A_ROW
    with monkeypatch.context() as patch:
        patch.setattr(service, "decode_for_inference", lambda _frame: (image[:0], (1, 1)))
        with pytest.raises(CheckpointError, match="fails on frame front-1 as well"):
            predictor.prepare(models[1])
    predictor.prepare(models[1])()
    mailbox.offer(frame(2, image))
    assert receive()[0].seq in (1, 2)
    assert predictor.alive


def test_work_on_conditions_that_fails_leaves_the_frames_alone(
    rig: tuple, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    predictor, mailbox, receive = rig
    calls: list[int] = []

    def fails() -> bool:
        calls.append(1)
        raise RuntimeError("no such layer")

    monkeypatch.setattr(predictor.conditions, "work", fails)
    for seq in range(3):
        mailbox.offer(frame(seq, np.zeros((48, 64, 3), np.uint8)))
        assert receive()[0].seq == seq
    assert len(calls) == 1
    assert "conditions not estimated any more" in caplog.text


def test_a_version_whose_answer_is_not_finite_is_not_let_in(
    rig: tuple, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, _, _ = rig
    monkeypatch.setattr(
        TorchServer, "predict", lambda *_: Prediction(np.zeros((96, 128), np.uint8), float("nan"))
    )
    with pytest.raises(CheckpointError, match="not finite"):
        predictor.prepare(models[1])


def test_statistics_on_probation_that_make_the_answer_not_finite_are_refused(
    rig: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, _, _ = rig
    sets = predictor._slot.conditions.sets
    sets._every = 1
    sets._put("c1", ConditionArrays(), "probation")
    right = Prediction(np.zeros((4, 4), np.uint8), 0.5)
    answers = iter([right, Prediction(right.mask, float("inf"))])
    monkeypatch.setattr(TorchServer, "predict", lambda *_: next(answers))
    served = sets.predict(np.zeros((4, 4, 3), np.uint8), "c1", "base", out_size=(4, 4), label=None)
    assert (served.prediction, served.used, served.decided) == (right, "base", True)
    assert sets.statuses() == {"c1": "refused"}


@pytest.mark.parametrize(
    ("scale", "given_to_the_network"),
    [(1.0, (480, 640)), (0.75, (384, 480)), (0.5, (240, 320)), (0.3, (160, 192))],
)
def test_a_smaller_frame_fills_whole_strides_as_far_as_its_decode_has_pixels(
    scale: float, given_to_the_network: tuple[int, int]
) -> None:
    picture = StreetCamera(seed=1, height=480, width=640).render(0, "day")[0]
    jpeg = images.encode_jpeg(picture, 90)
    came = replace(frame(1, picture, scale=scale), data=jpeg, info=image_headers.probe(jpeg))
    image, size = service.decode_for_inference(came)
    assert (image.shape[:2], size) == (given_to_the_network, (480, 640))
