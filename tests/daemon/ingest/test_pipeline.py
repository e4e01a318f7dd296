"""Frames in work on several threads: in order, safe before they are answered, and accounted for at a stop."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ingest_harness import DROP_SECOND, KEEP_ALL, PATIENCE, Client, header, jpeg, label, label_parts, running
from stored import files, rows

from dance_ondevice.daemon.ingest import decision as judge
from dance_ondevice.daemon.ingest import service as ingest_service
from dance_ondevice.daemon.ingest.backlog import Queued
from dance_ondevice.daemon.ingest.pipeline import Pipeline
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.system.workers import Workers
from dance_ondevice.daemon.wire.messages import FrameMessage, WireError
from dance_ondevice.daemon.wire.receiver import Origin
from dance_ondevice.files import leftover_of
from dance_ondevice.policies.stream.data_slimming import SlimmingRules

HALVES = SlimmingRules(scales=(0.5,), drop_fraction=0.0, warmup_frames=0)


class Gate:
    """Holds whoever passes until it is opened, and tells that somebody has come."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._come = threading.Semaphore(0)

    def hold(self) -> None:
        self._come.release()
        assert self._open.wait(PATIENCE)

    def wait_for(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._come.acquire(timeout=PATIENCE)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def encoding(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Holds every frame that is kept at the second station."""
    gate, real = Gate(), judge.encode_for_store

    def held(*arguments: Any) -> Any:
        gate.hold()
        return real(*arguments)

    monkeypatch.setattr(judge, "encode_for_store", held)
    # What is stored as it came is not given to the workers: here it is.
    monkeypatch.setattr(ingest_service, "stored_as_it_came", lambda _frame, _scale: False)
    return gate


def queued(number: int) -> Queued:
    message = FrameMessage(camera="front", seq=number, captured_at=1.0, encoding="jpeg", image=b"image")
    return Queued(Origin(None), message, size=5, received=0.0, arrived_at=0.0)


def send(client: Client, seq: int, image: bytes) -> None:
    client.socket.send_multipart([header(seq=seq), image])


def test_frames_are_decided_and_stored_in_order_whatever_they_cost(store: Store, paths: StatePaths) -> None:
    count = 15
    rules = SlimmingRules(scales=(1.0, 0.5), drop_fraction=0.0, warmup_frames=count, screen=False)
    pictures = [jpeg(0, 960, 1280), jpeg(1), jpeg(2, 480, 640)]
    with running(store, rules=rules, workers=4) as harness:
        client = harness.client()
        for number in range(count):
            send(client, number, pictures[number % 3])
        replies = [client.answer() for _ in range(count)]

        assert [reply.seq for reply in replies] == list(range(count))
        for number, reply in enumerate(replies):
            assert f"frame {number + 1} of the first {count}" in (reply.reason or "")
    assert [row["seq"] for row in rows(paths).values()] == list(range(count)), "rows are in order of storing"


def test_nothing_is_answered_while_the_disk_flushes(
    store: Store, paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Gate()
    real = os.fsync

    def slow(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if (leftover_of(name) or "").endswith(".jpg"):
            disk.hold()
        real(descriptor)

    with running(store) as harness:
        monkeypatch.setattr(os, "fsync", slow)
        client = harness.client()
        for number in range(3):
            send(client, number, jpeg(number))
        disk.wait_for()
        send(client, 3, b"no image")

        assert client.answer().seq == 3, "what needs no promise is answered"
        assert rows(paths) == {}
        disk.open()
        assert [(reply.seq, reply.kept) for reply in (client.answer() for _ in range(3))] == [
            (0, True),
            (1, True),
            (2, True),
        ]
    assert len(rows(paths)) == len(files(paths)) == 3


@pytest.mark.parametrize("broken", [".jpg", "2023-11-14"])
def test_no_promise_is_made_of_what_could_not_be_flushed(
    store: Store, paths: StatePaths, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    real = os.fsync

    def failing(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if (leftover_of(name) or name).endswith(broken):
            raise OSError(errno.EIO, "the medium failed")
        real(descriptor)

    with running(store, rules=HALVES) as harness:
        client = harness.client()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            for number in range(8):
                send(client, number, jpeg(number))
            replies = [client.answer() for _ in range(8)]
        assert {(reply.ok, reply.code) for reply in replies} == {(False, "store_failed")}
        assert harness.recorder.frames == {("front", "rejected"): 8}
        assert (rows(paths), files(paths)) == ({}, [])

        assert client.ask(header(seq=0), jpeg(0)).kept, "works again once the disk does"
    assert len(rows(paths)) == len(files(paths)) == 1


def test_a_dropped_frame_is_answered_at_once_but_inference_sees_frames_in_order(
    store: Store, encoding: Gate
) -> None:
    with running(store, rules=DROP_SECOND) as harness:
        client = harness.client()
        send(client, 0, jpeg(0, 96, 128))
        encoding.wait_for()
        dropped = client.ask(header(seq=1), jpeg(0, 96, 128))

        assert (dropped.seq, dropped.kept) == (1, False)
        assert harness.mailbox.take(0.0) is None, "the frame before it is still in work"
        encoding.open()
        assert client.answer().kept
        latest = harness.mailbox.take(PATIENCE)
        assert latest is not None
        assert (latest.seq, harness.mailbox.skipped) == (1, 1)


def test_a_label_finds_the_frame_that_was_sent_just_before_it(
    store: Store, paths: StatePaths, encoding: Gate
) -> None:
    with running(store, workers=2) as harness:
        client = harness.client()
        send(client, 0, jpeg(0))
        encoding.wait_for()
        client.socket.send_multipart(label_parts("front-1700000000250000-0", label(classes=(4,))))
        send(client, 1, b"no image")
        assert client.answer().seq == 1, "the label is in work, too, by now"
        encoding.open()

        assert [client.answer().ok for _ in range(2)] == [True, True]
    (row,) = rows(paths).values()
    assert row["classes"] == "[4]"


def test_damaged_colours_are_refused_and_not_shown_to_inference(
    store: Store, paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: Any) -> Any:
        raise WireError("image", "the colours are damaged")

    monkeypatch.setattr(judge, "encode_for_store", damaged)
    with running(store) as harness:
        reply = harness.client().ask(header(), jpeg())

        assert (reply.ok, reply.code, reply.seq) == (False, "image", 0)
        assert harness.recorder.frames == {("front", "rejected"): 1}
        assert harness.mailbox.take(0.0) is None
    assert rows(paths) == {}


def stop_with_full_workers(harness: Any, encoding: Gate, count: int, between: Callable[[], None]) -> list:
    client = harness.client()
    for number in range(count):
        send(client, number, jpeg(number))
    client.socket.send_multipart([b"no header", b""])
    encoding.wait_for()  # one is enough: what a worker takes at a time is decided before the next ones
    assert client.answer().code == "header", "all before it have been received"
    harness.ingest.stopping.set()
    harness.ingest.wake()
    between()
    return [client.answer() for _ in range(count)]


def test_stop_finishes_what_is_in_work(store: Store, paths: StatePaths, encoding: Gate) -> None:
    with running(store, workers=2, queue_frames=32) as harness:
        replies = stop_with_full_workers(harness, encoding, 12, encoding.open)

        assert [(reply.seq, reply.kept) for reply in replies] == [(number, True) for number in range(12)]
        assert harness.recorder.count("kept") == 12
    assert len(rows(paths)) == len(files(paths)) == 12


@pytest.mark.slow
def test_stop_refuses_what_is_in_work_for_too_long(store: Store, paths: StatePaths, encoding: Gate) -> None:
    with running(store, workers=2, queue_frames=32, rules=KEEP_ALL) as harness:
        replies = stop_with_full_workers(harness, encoding, 12, lambda: None)
        encoding.open()

        assert {(reply.ok, reply.code) for reply in replies} == {(False, "stopping")}
        assert sorted(reply.seq or 0 for reply in replies) == list(range(12))
        assert harness.recorder.refusals == {"stopping": 12, "header": 1}
    assert rows(paths) == {}


def test_overflow_is_counted_exactly_while_workers_are_busy(
    store: Store, paths: StatePaths, encoding: Gate
) -> None:
    sent = 60
    with running(store, workers=1, queue_frames=4) as harness:
        client = harness.client()
        for number in range(sent):
            send(client, number, jpeg(number))
        encoding.wait_for()
        harness.recorder.wait_for(lambda: harness.recorder.count("overflow") == sent - 8)
        encoding.open()
        replies = [client.answer() for _ in range(sent)]

        kept = [reply.seq for reply in replies if reply.kept]
        lost = [reply.seq for reply in replies if reply.code == "overflow"]
        assert sorted(kept + lost) == list(range(sent))
        assert kept == [0, 1, 2, 3, *range(sent - 4, sent)]
        assert {name: harness.recorder.count(name) for name in ("kept", "overflow", None)} == {
            "kept": 8,
            "overflow": sent - 8,
            None: sent,
        }
    assert len(rows(paths)) == 8


def test_of_several_steps_of_a_worker_the_one_that_fails_fails_alone() -> None:
    woken = threading.Semaphore(0)
    workers = Workers("test", 1)
    pipeline = Pipeline(workers, max_messages=16, max_pixels=1 << 20, done=woken.release)

    def step(number: int) -> Any:
        if number == 2:
            raise WireError("image", "no image")
        return number

    for number in range(7):
        pipeline.begin(queued(number), float(number), 100, partial(step, number))
    assert not list(pipeline.measured()), "nothing is done before it is handed out"
    pipeline.hand_out()
    found: list[Any] = []
    while len(found) < 7:
        assert woken.acquire(timeout=PATIENCE)
        for work in pipeline.measured():
            try:
                found.append(work.measured.get())
            except WireError as error:
                found.append(str(error))
    assert found == [0, 1, "no image", 3, 4, 5, 6]
    assert not len(pipeline)
    assert workers.close()
