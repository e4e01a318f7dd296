"""What comes before a message is its sender's, and goes back as it was: REQ, DEALER, and sockets between."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import zmq
from ingest_harness import PATIENCE, header, jpeg, running

from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.wire import codec as wire


def test_a_req_socket_that_numbers_its_requests_is_answered(store: Store) -> None:
    with running(store) as harness:
        client = harness.client(zmq.REQ)
        client.socket.setsockopt(zmq.REQ_CORRELATE, 1)
        client.socket.setsockopt(zmq.REQ_RELAXED, 1)

        for seq in range(3):
            assert client.ask(header(seq=seq), jpeg(seq)).kept
        client.socket.send_multipart([header(seq=3), jpeg(3)])
        # Relaxed: the next request takes the place of one that was not answered yet.
        assert client.ask(header(seq=4), jpeg(4)).seq == 4


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.REQ])
def test_a_sender_that_comes_back_under_its_routing_id_is_answered(store: Store, kind: int) -> None:
    """Its old connection still stands, as after a power cut or in another network."""
    with running(store) as harness:
        sockets = [harness.context.socket(kind) for _ in range(3)]
        try:
            for seq, socket in enumerate(sockets):
                socket.setsockopt(zmq.ROUTING_ID, b"front")
                socket.setsockopt(zmq.LINGER, 0)
                socket.connect(harness.endpoint)
                socket.send_multipart([header(seq=seq), jpeg(seq)])
                assert socket.poll(PATIENCE * 1000)
                assert wire.parse_reply(socket.recv_multipart()[-1]).seq == seq
        finally:
            for socket in sockets:
                socket.close()


@pytest.mark.parametrize(
    "envelope",
    [
        (),
        (b"",),
        (b"\x00\x00\x00\x07", b""),
        (b"{  }", b""),
        (b"\x00abcd", b"\x00efgh", b"\x01\x02\x03\x04", b""),
        (bytes(255), b""),
    ],
)
@pytest.mark.parametrize("image", [jpeg(), b""])
def test_an_envelope_comes_back_as_it_was(store: Store, envelope: tuple[bytes, ...], image: bytes) -> None:
    with running(store) as harness:
        socket = harness.client().socket
        socket.send_multipart([*envelope, header(), image])

        *before, answer = socket.recv_multipart()

    assert tuple(before) == envelope
    reply = wire.parse_reply(answer)
    assert (reply.ok, reply.seq) == (bool(image), 0)
    assert image or "empty" in str(reply.error)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([b"a", b""], "JSON"),
        ([b"a" * 256, b"", header(), jpeg()], "not a JSON object"),
        ([b"front", header(), jpeg()], "send no topic before it"),
        ([b"a"] * 40 + [b"", header(), jpeg()], "not a JSON object"),
        ([b"", b"", header(), jpeg()], "not a JSON object"),
        ([header(), b"", b"label"], "the image is empty"),
    ],
)
def test_what_is_no_envelope_is_refused(store: Store, parts: Sequence[bytes], words: str) -> None:
    with running(store) as harness:
        socket = harness.client().socket
        socket.send_multipart(parts)

        reply = wire.parse_reply(socket.recv_multipart()[-1])

    assert not reply.ok
    assert words in str(reply.error)


def test_senders_behind_a_proxy_get_their_own_answers(store: Store) -> None:
    with running(store) as harness, zmq.Context() as context:
        front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        control = context.socket(zmq.PAIR)
        control.bind("inproc://control")
        steering = context.socket(zmq.PAIR)
        steering.connect("inproc://control")
        port = front.bind_to_random_port("tcp://127.0.0.1")
        back.connect(harness.endpoint)
        proxy = threading.Thread(target=zmq.proxy_steerable, args=(front, back, None, control))
        proxy.start()
        senders = [context.socket(kind) for kind in (zmq.REQ, zmq.REQ, zmq.DEALER)]
        try:
            for seq, sender in enumerate(senders):
                sender.linger, sender.rcvtimeo = 0, int(PATIENCE * 1000)
                sender.connect(f"tcp://127.0.0.1:{port}")
                delimiter = [b""] if sender.type == zmq.DEALER else []
                sender.send_multipart([*delimiter, header(camera=f"cam{seq}", seq=seq), jpeg(seq)])
            answers = [wire.parse_reply(sender.recv_multipart()[-1]) for sender in senders]
        finally:
            steering.send(b"TERMINATE")
            proxy.join(PATIENCE)
            for socket in (*senders, front, back, steering, control):
                socket.close(linger=0)

    assert [(answer.camera, answer.kept) for answer in answers] == [(f"cam{n}", True) for n in range(3)]
