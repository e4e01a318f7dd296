"""The mask socket against subscribers that misbehave, and those that were revoked."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from ingest_harness import PATIENCE, guarded
from keyring import Keyring

from dance_ondevice.daemon.security.curve import ClientCurve, join
from dance_ondevice.daemon.wire.publisher import MaskPublisher
from dance_ondevice.daemon.wire.receiver import AddressInUse


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    with zmq.Context() as opened:
        yield opened


def subscribe(
    context: zmq.Context[Any], endpoint: str, curve: ClientCurve | None = None
) -> zmq.Socket[bytes]:
    subscriber: zmq.Socket[bytes] = context.socket(zmq.SUB)
    subscriber.linger = 0
    subscriber.subscribe(b"")
    if curve is not None:
        join(subscriber, curve.pair, curve.server_key)
    subscriber.connect(endpoint)
    return subscriber


def hears(publisher: MaskPublisher, subscriber: zmq.Socket[bytes]) -> None:
    """A subscription takes a moment to arrive: publish until something comes back."""
    for _ in range(int(PATIENCE * 100)):
        publisher.send([b"mask/x", b"now"])
        if subscriber.poll(10):
            while subscriber.poll(0):
                subscriber.recv_multipart()
            return
    pytest.fail("the subscriber hears nothing")


def memory() -> int:
    """Resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.parametrize(
    ("topic", "wants"),
    [(b"", True), (b"cl", True), (b"classes/", True), (b"classes/a", True), (b"mask/", False)],
)
def test_newcomers_who_want_the_classes_are_noticed_once(
    context: zmq.Context[Any], topic: bytes, wants: bool
) -> None:
    publisher = MaskPublisher(context, "tcp://127.0.0.1:*")
    with context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        # In this order on the wire: the second says that the first has arrived.
        subscriber.subscribe(topic)
        subscriber.subscribe(b"zzz")
        subscriber.connect(publisher.endpoint)
        found = False
        for _ in range(int(PATIENCE * 100)):
            found |= publisher.newcomers()
            publisher.send([b"zzz", b"now"])
            if subscriber.poll(10):
                break
        found |= publisher.newcomers()
        assert found == wants
        assert not publisher.newcomers()
    publisher.close()


def test_a_subscription_beyond_any_topic_costs_its_connection(context: zmq.Context[Any]) -> None:
    publisher = MaskPublisher(context, "tcp://127.0.0.1:*")
    with subscribe(context, publisher.endpoint) as other, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        with subscriber.get_monitor_socket(zmq.EVENT_DISCONNECTED) as ended:
            subscriber.connect(publisher.endpoint)
            subscriber.subscribe(b"mask/" + bytes(2000))
            assert ended.poll(1000 * PATIENCE)
            subscriber.disable_monitor()
        hears(publisher, other)
    publisher.close()


def test_a_subscriber_that_never_reads_costs_a_few_masks_of_memory(context: zmq.Context[Any]) -> None:
    publisher = MaskPublisher(context, "tcp://127.0.0.1:*")
    with zmq.Context() as others:
        lazy = others.socket(zmq.SUB)
        lazy.linger = 0
        lazy.rcvhwm = 1
        lazy.rcvbuf = 65536
        lazy.subscribe(b"")
        lazy.connect(publisher.endpoint)
        reader = subscribe(others, publisher.endpoint)
        hears(publisher, reader)
        assert lazy.poll(PATIENCE * 1000)
        mask = bytes(1_000_000)
        publisher.send([b"mask/x", mask])
        # What is still on its way to the reader would count among the masks that are held for it.
        while reader.poll(PATIENCE * 1000) and reader.recv_multipart()[1] != mask:
            pass
        before = memory()
        for _ in range(300):
            publisher.send([b"mask/x", mask])
            assert reader.poll(PATIENCE * 1000)
            reader.recv_multipart()
        grown = memory() - before
        # 16 masks are held, the kernel's buffers and libzmq's take some more; all of them would be 300 MB.
        assert grown < 60_000_000
        reader.close()
        lazy.close()
        publisher.close()


def test_a_revoked_subscriber_is_cut_off_and_the_others_come_back(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    ring = Keyring(tmp_path / "keys", "wall", "thief")
    now = [0.0]
    with guarded(context, ring.server), zmq.Context() as others:
        publisher = MaskPublisher(context, "tcp://127.0.0.1:*", curve=ring.server, monotonic=lambda: now[0])
        endpoint = publisher.endpoint
        wall = subscribe(others, endpoint, ring.client("wall"))
        thief = subscribe(others, endpoint, ring.client("thief"))
        refused = thief.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        for each in (wall, thief):
            hears(publisher, each)
        publisher.tend()

        ring.public_file("thief").unlink()
        ring.server.clients.scan()
        publisher.tend()
        hears(publisher, thief)
        now[0] = 1.0
        publisher.tend()

        assert refused.poll(PATIENCE * 1000), "the thief is turned away when it comes back"
        while thief.poll(0):
            thief.recv_multipart()
        hears(publisher, wall)
        assert not thief.poll(0)
        assert publisher.endpoint == endpoint
        now[0] = 2.0
        publisher.tend()
        hears(publisher, wall)
        thief.disable_monitor()
        for each in (refused, wall, thief):
            each.close(0)
        publisher.close()


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_the_address_is_bound_again_and_again(context: zmq.Context[Any], tmp_path: Path, kind: str) -> None:
    ring = Keyring(tmp_path / "keys", *(f"c{n}" for n in range(20)), "wall")
    now = [0.0]
    endpoint = "tcp://127.0.0.1:*" if kind == "tcp" else f"ipc://{tmp_path}/masks"
    with guarded(context, ring.server), zmq.Context() as others:
        publisher = MaskPublisher(context, endpoint, curve=ring.server, monotonic=lambda: now[0])
        wall = subscribe(others, publisher.endpoint, ring.client("wall"))
        for number in range(20):
            ring.public_file(f"c{number}").unlink()
            ring.server.clients.scan()
            now[0] += 1.0
            publisher.tend()
        hears(publisher, wall)
        wall.close()
        publisher.close()


def test_a_taken_address_names_the_key(context: zmq.Context[Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AddressInUse, match=r"inference\.publish"):
            MaskPublisher(context, f"tcp://127.0.0.1:{taken.getsockname()[1]}")
