"""A real ingest thread on a real socket with a real store, senders to talk to it, and counters to read."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import cv2
import msgspec
import numpy as np
import zmq

from dance_ondevice.complexity import make_indicator
from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.ingest.admission import Admission
from dance_ondevice.daemon.ingest.mailbox import LatestFrames
from dance_ondevice.daemon.ingest.service import Ingest
from dance_ondevice.daemon.ingest.settings import SampleStore
from dance_ondevice.daemon.security.curve import ClientCurve, ServerCurve, join
from dance_ondevice.daemon.security.zap import ZapAuthenticator
from dance_ondevice.daemon.store.samples import NewSample, Stored, StoreError
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.messages import Buffer, Reply
from dance_ondevice.images import codec as images
from dance_ondevice.policies.stream.data_slimming import Decision, SlimmingRules

#: Keeps everything as it comes.
KEEP_ALL = SlimmingRules(
    scales=(1.0,), drop_fraction=0.0, loss_weighting=False, warmup_frames=0, screen=False
)
#: Keeps the first frame of a kind and drops the second, whatever they show.
DROP_SECOND = SlimmingRules(scales=(1.0, 0.5), drop_fraction=0.99, warmup_frames=0, screen=False)
N_CLASSES = 11
PATIENCE = 10.0


def label_parts(sample_id: str, label: bytes) -> tuple[bytes, bytes]:
    """A message that labels an earlier frame."""
    return msgspec.json.encode({"v": 1, "label_for": sample_id}), label


class Recorder:
    """Instruments that tests may wait for."""

    def __init__(self) -> None:
        self.frames: Counter[tuple[str, str]] = Counter()
        self.conditions: Counter[tuple[str, str, str]] = Counter()
        self.stood: dict[str, int] = {}
        self.refusals: Counter[str] = Counter()
        self.told: list[tuple[str, str]] = []
        self.ahead: dict[str, float] = {}
        self.scales: Counter[tuple[str, float]] = Counter()
        self.scores: list[tuple[str, float]] = []
        self.forgotten: list[str] = []
        self.shared: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.cpu: Counter[str] = Counter()
        self._changed = threading.Condition()

    def frame(self, camera: str, outcome: str) -> None:
        with self._changed:
            self.frames[camera, outcome] += 1
            self._changed.notify_all()

    def dated(self, camera: str, ahead: float) -> None:
        self.ahead[camera] = ahead

    def decided(self, camera: str, decision: Decision) -> None:
        self.conditions[camera, decision.condition, decision.outcome] += 1

    def standing(self, camera: str, frames: int) -> None:
        self.stood[camera] = frames

    def score(self, camera: str, value: float) -> None:
        self.scores.append((camera, value))

    def scale(self, camera: str, scale: float) -> None:
        self.scales[camera, scale] += 1

    def ingest_seconds(self, value: float) -> None:
        self.seconds.append(value)

    def frame_cpu(self, stage: str, seconds: float) -> None:
        self.cpu[stage] += 1

    def forget(self, camera: str) -> None:
        self.forgotten.append(camera)

    def sender_changed(self, camera: str) -> None:
        self.shared[camera] += 1

    def refused_frame(self, camera: str, text: str) -> None:
        self.told.append((camera, text))

    def refused(self, reason: str) -> None:
        with self._changed:
            self.refusals[reason] += 1
            self._changed.notify_all()

    def count(self, outcome: str | None = None) -> int:
        return sum(n for (_, found), n in self.frames.items() if outcome in (None, found))

    def waits_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        assert self.waits_for(condition, PATIENCE), (self.frames, self.refusals)


class HeldStore:
    """Keeps its promises only when told to: what the real store is like when the disk is slow."""

    def __init__(self) -> None:
        self.samples: list[NewSample] = []
        self.futures: list[Future[Stored]] = []
        self.arrived = threading.Semaphore(0)
        self.told: list[Callable[[], None]] = []

    def after_groups(self, call: Callable[[], None]) -> None:
        self.told.append(call)

    def add_sample(self, sample: NewSample) -> Future[Stored]:
        future: Future[Stored] = Future()
        self.samples.append(sample)
        self.futures.append(future)
        self.arrived.release()
        return future

    def add_label(self, sample_id: str, png: bytes, classes: Sequence[int], source: str) -> Future[None]:
        raise StoreError("no labels here")

    def wait(self) -> None:
        assert self.arrived.acquire(timeout=PATIENCE)

    def keep(self, index: int) -> None:
        sample = self.samples[index]
        self.futures[index].set_result(
            Stored(id=sample.id, duplicate=False, score=sample.score, scale=sample.scale)
        )
        for call in self.told:
            call()


class Client:
    """A sender that asks one thing at a time."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        kind: int = zmq.DEALER,
        curve: ClientCurve | None = None,
    ) -> None:
        self.socket = context.socket(kind)
        if curve is not None:
            join(self.socket, curve.pair, curve.server_key)
        self.socket.linger = 0
        self.socket.rcvtimeo = int(PATIENCE * 1000)
        self.socket.connect(endpoint)

    def ask(self, *parts: Buffer) -> Reply:
        self.socket.send_multipart(parts)
        return self.answer()

    def answer(self) -> Reply:
        return wire.parse_reply(self.socket.recv_multipart()[-1])

    def close(self) -> None:
        self.socket.close()


class Harness:
    """An ingest thread and what belongs to it."""

    def __init__(self, ingest: Ingest, recorder: Recorder, mailbox: LatestFrames, context: Any) -> None:
        self.ingest = ingest
        self.recorder = recorder
        self.mailbox = mailbox
        self.context = context
        self._clients: list[Client] = []

    @property
    def endpoint(self) -> str:
        return self.ingest.endpoints[0]

    def client(self, kind: int = zmq.DEALER, curve: ClientCurve | None = None) -> Client:
        client = Client(self.context, self.endpoint, kind, curve)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


@contextlib.contextmanager
def running(
    store: SampleStore,
    *,
    rules: SlimmingRules = KEEP_ALL,
    clock: Callable[[], float] | None = None,
    admission: Admission | None = None,
    curve: ServerCurve | None = None,
    publishers: tuple[str, ...] = (),
    workers: int = 2,
    cameras: Sequence[tuple[str, int]] = (),
    **settings: Any,
) -> Iterator[Harness]:
    """Run an ingest thread, with CURVE behind an authenticator; ``settings`` are of ``[ingest]``."""
    recorder, mailbox = Recorder(), LatestFrames()
    with zmq.Context() as context, guarded(context, curve):
        ingest = Ingest(
            sections.Ingest(**{"bind": ("tcp://127.0.0.1:*",), **settings}),
            context=context,
            indicator=make_indicator("detail_loss", (1.0, 0.75, 0.5)),
            rules=rules,
            n_classes=N_CLASSES,
            store=store,
            mailbox=mailbox,
            instruments=recorder,
            admission=admission,
            curve=curve,
            publishers=publishers,
            workers=workers,
            cameras=cameras,
            **({"clock": clock} if clock else {}),
        )
        ingest.start()
        harness = Harness(ingest, recorder, mailbox, context)
        try:
            yield harness
        finally:
            stopped = ingest.stop(10)
            harness.close()
        assert stopped
        assert ingest.failure is None, ingest.failure


@contextlib.contextmanager
def guarded(context: zmq.Context[Any], curve: ServerCurve | None) -> Iterator[ZapAuthenticator | None]:
    """An authenticator for the context's sockets, if there are keys."""
    if curve is None:
        yield None
        return
    authenticator = ZapAuthenticator(context, curve.clients.name_of)
    authenticator.start()
    try:
        yield authenticator
    finally:
        stopped = authenticator.stop(10)
    assert stopped
    assert authenticator.failure is None, authenticator.failure


def picture(number: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    """(height, width, 3) BGR: a soft pattern with a little noise, another one for each number."""
    random = np.random.default_rng(number)
    blobs = random.integers(30, 220, (6, 8, 3), dtype=np.uint8)
    soft = cv2.resize(blobs, (width, height), interpolation=cv2.INTER_LINEAR)
    return soft + random.integers(0, 10, soft.shape, dtype=np.uint8)


def jpeg(number: int = 0, height: int = 48, width: int = 64) -> bytes:
    return images.encode_jpeg(picture(number, height, width))


def label(height: int = 48, width: int = 64, classes: Sequence[int] = (0, 3, 255)) -> bytes:
    ids = np.resize(np.array(classes, np.uint8), (height, width))
    return images.encode_png(ids)


def header(**changes: Any) -> bytes:
    """A valid header of a JPEG frame, but for the changes; None takes a key away."""
    fields = {
        "v": 1,
        "camera": "front",
        "seq": 0,
        "captured_at": 1_700_000_000.25,
        "encoding": "jpeg",
        **changes,
    }
    return msgspec.json.encode({key: value for key, value in fields.items() if value is not None})
