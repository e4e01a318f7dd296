"""The ingest thread beside a store that is slow, fails or hangs: acks, overflow, and a stop meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ingest_harness import DROP_SECOND, KEEP_ALL, HeldStore, header, jpeg, running

from dance_ondevice.daemon.store.samples import StoreError, StoreFull


def test_acknowledgement_waits_until_the_sample_is_durable() -> None:
    store = HeldStore()
    rules = replace(DROP_SECOND, warmup_frames=1)  # so it drops the third
    with running(store, rules=rules) as harness:
        client = harness.client()
        client.socket.send_multipart([header(seq=0), jpeg(0)])
        client.socket.send_multipart([header(seq=1), jpeg(0)])
        store.wait()
        store.wait()
        # A frame that is not kept needs no promise, so its answer overtakes theirs.
        assert client.ask(header(seq=2), jpeg(0)).seq == 2

        store.keep(1)
        assert client.answer().seq == 1
        store.keep(0)
        assert client.answer().seq == 0


def test_store_failure_is_told_and_counted() -> None:
    store = HeldStore()
    with running(store) as harness:
        client = harness.client()
        for number, error in enumerate((StoreFull("the quota is reached"), StoreError("the disk is broken"))):
            client.socket.send_multipart([header(seq=number), jpeg()])
            store.wait()
            store.futures[number].set_exception(error)

            reply = client.answer()

            assert (reply.ok, reply.seq, reply.camera) == (False, number, "front")
            assert str(error) in reply.error
        assert harness.recorder.frames == {("front", "rejected"): 2}
        assert harness.recorder.refusals == {"store_full": 1, "store_failed": 1}
        assert not harness.recorder.conditions, "what was not stored counts for no condition"


def test_oldest_frames_overflow_while_the_store_is_slow() -> None:
    store = HeldStore()
    with running(store, queue_frames=4) as harness:
        client = harness.client()
        for number in range(4):
            client.socket.send_multipart([header(seq=number), jpeg(number)])
            store.wait()
        for number in range(4, 20):
            client.socket.send_multipart([header(seq=number), jpeg(number)])
        harness.recorder.wait_for(lambda: harness.recorder.count("overflow") == 12)

        lost = [client.answer() for _ in range(12)]

        # Four wait for the store, the newest four in the queue.
        assert [reply.seq for reply in lost] == list(range(4, 16))
        assert {(reply.ok, reply.code) for reply in lost} == {(False, "overflow")}
        assert all(reply.error.startswith("overflow") for reply in lost)
        for number in range(8):
            if number >= 4:
                store.wait()
            store.keep(number)
        assert sorted(client.answer().seq for _ in range(8)) == [0, 1, 2, 3, 16, 17, 18, 19]
        assert harness.recorder.frames == {("front", "overflow"): 12, ("front", "kept"): 8}


@pytest.mark.slow
def test_queue_is_bounded_in_bytes_as_well() -> None:
    store = HeldStore()
    with running(store, queue_frames=64, max_message_bytes=20_000) as harness:
        client = harness.client()
        raw = header(encoding="raw", shape=[75, 80, 3], dtype="uint8")
        for _ in range(20):
            client.socket.send_multipart([raw, bytes(18_000)])
        # 40,000 bytes may wait, here and again in the store: two messages each.
        harness.recorder.wait_for(lambda: harness.recorder.count("overflow") >= 15)


def test_stop_answers_what_was_received() -> None:
    store = HeldStore()
    with running(store) as harness:
        client = harness.client()
        client.socket.send_multipart([header(), jpeg()])
        store.wait()
        harness.ingest.stopping.set()
        harness.ingest.wake()
        store.keep(0)

        assert client.answer().kept


@pytest.mark.slow
def test_stop_does_not_wait_for_a_store_that_hangs() -> None:
    store = HeldStore()
    with running(store, queue_frames=1) as harness:
        client = harness.client()
        client.socket.send_multipart([header(seq=0), jpeg(0)])
        store.wait()
        client.socket.send_multipart([header(seq=1), jpeg(1)])
        client.socket.send_multipart([header(seq=2), jpeg(2)])
        harness.recorder.wait_for(lambda: harness.recorder.count("overflow") == 1)
        assert client.answer().seq == 1

        assert harness.ingest.stop(10)

        reply = client.answer()
        assert (reply.seq, reply.ok, reply.code) == (2, False, "stopping")


@pytest.mark.slow
def test_store_that_answers_after_the_end_finds_nobody() -> None:
    store = HeldStore()
    with running(store, rules=KEEP_ALL) as harness:
        harness.client().socket.send_multipart([header(), jpeg()])
        store.wait()
    store.keep(0)
