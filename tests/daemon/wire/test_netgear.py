"""The published vidgear package's NetGear, unmodified, as the sender."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from ingest_harness import PATIENCE, Harness, jpeg, picture, running
from keyring import Keyring

from dance_ondevice.daemon.config.sections import Ingest
from dance_ondevice.daemon.ingest.admission import Admission
from dance_ondevice.daemon.security.curve import join
from dance_ondevice.daemon.store.service import Store, open_reader
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.messages import ForeignFrame, Goodbye, WireError
from dance_ondevice.daemon.wire.receiver import AddressInUse, ListenError, Receiver
from dance_ondevice.images import codec as images

netgear = pytest.importorskip("vidgear.gears.netgear", reason="vidgear needs Python 3.11")

#: NetGear's own numbers of its patterns.
REQ, PUB = 1, 2


def rows(paths: StatePaths) -> list[dict[str, Any]]:
    database = open_reader(paths)
    try:
        return list(database.query("select * from samples order by camera, seq"))
    finally:
        database.close()


def opened(endpoint: str, pattern: int, **options: Any) -> Any:
    """A NetGear server: the end that sends, and connects."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    return netgear.NetGear(
        address=host, port=port, protocol="tcp", pattern=pattern, request_timeout=PATIENCE, **options
    )


def act(action: Callable[[], Any]) -> Any:
    """Run an action on a thread, since one that is not answered would wait for long."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(action()), daemon=True)
    thread.start()
    thread.join(2 * PATIENCE)
    assert found, "no answer came"
    return found[0]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What NetGear's socket receives, which NetGear itself throws away."""
    received: list[bytes] = []
    really = zmq.Socket.recv

    def recv(socket: Any, *args: Any, **kwargs: Any) -> Any:
        got = really(socket, *args, **kwargs)
        if socket.type == zmq.REQ:
            received.append(bytes(got))
        return got

    monkeypatch.setattr(zmq.Socket, "recv", recv)
    return received


@pytest.mark.parametrize("compressed", [True, False])
def test_req(store: Store, paths: StatePaths, answers: list[bytes], compressed: bool) -> None:
    def send() -> bool:
        sender = opened(harness.endpoint, REQ, jpeg_compression=compressed)
        for number in range(3):
            sender.send(picture(number))
        sender.close()
        return True

    with running(store) as harness:
        assert act(send)

        assert harness.recorder.frames == {("netgear", "kept"): 3}
        assert harness.recorder.refusals == {}
    told = [json.loads(answer)["data"] for answer in answers]
    assert [(each["ok"], each.get("kept")) for each in told] == [(True, True)] * 3 + [(True, None)]
    stored = rows(paths)
    first = stored[0]["seq"]
    assert [row["seq"] for row in stored] == [first, first + 1, first + 2]
    bgr = images.decode_colour((paths.root / stored[1]["path"]).read_bytes())
    assert np.abs(bgr.astype(int) - picture(1)).mean() < 6


@pytest.mark.parametrize("compressed", [True, False])
def test_pub(store: Store, compressed: bool) -> None:
    with running(store, bind=(), subscribe_bind=("tcp://127.0.0.1:*",)) as harness:
        (endpoint,) = harness.ingest.visited_endpoints
        sender = opened(endpoint, PUB, jpeg_compression=compressed)
        kept = harness.recorder.frames
        # A PUB cannot tell when somebody subscribed, so it sends until something arrives.
        for number in range(1000):
            sender.send(picture(number))
            if harness.recorder.waits_for(lambda: kept["netgear", "kept"] >= 3, timeout=0.02):
                break
        sender.close()
        assert kept["netgear", "kept"] >= 3
        assert set(kept) == {("netgear", "kept")}
        assert harness.recorder.refusals == {}


def test_the_bidirectional_mode_hands_over_the_daemons_answer(store: Store) -> None:
    def send() -> Any:
        sender = opened(harness.endpoint, REQ, bidirectional_mode=True)
        found = sender.send(picture(), message={"camera": "yard 2"})
        sender.close()
        return found

    with running(store) as harness:
        answer = act(send)

    assert (answer["ok"], answer["kept"], answer["camera"]) == (True, True, "yard_2")


def test_the_multi_servers_mode_makes_a_camera_of_each_port(store: Store) -> None:
    def send() -> bool:
        sender = opened(harness.endpoint, REQ, multiserver_mode=True)
        sender.send(picture())
        sender.close()
        return True

    with running(store) as harness:
        assert act(send)
        port = harness.endpoint.rpartition(":")[2]

        assert harness.recorder.frames == {(f"netgear-{port}", "kept"): 1}
        assert harness.recorder.refusals == {}


def test_a_wrong_frame_is_refused_in_netgears_language(store: Store, answers: list[bytes]) -> None:
    def send() -> bool:
        sender = opened(harness.endpoint, REQ, jpeg_compression=False)
        sender.send(np.zeros((48, 64, 3), np.float32))
        sender.send(picture())
        sender.close()
        return True

    with running(store) as harness:
        assert act(send)

        assert harness.recorder.refusals == {"shape": 1}
    refused, kept, _ = (json.loads(answer)["data"] for answer in answers)
    assert (refused["ok"], refused["code"], kept["ok"]) == (False, "shape", True)
    assert "float32" in refused["error"]
    assert "uint8" in refused["error"]


def header(**changes: Any) -> bytes:
    plain = {"terminate_flag": False, "compression": {"dct": True, "ups": False, "colorspace": "BGR"}}
    return json.dumps(
        {**plain, "message": None, "pattern": "1", "dtype": "", "shape": "", **changes}
    ).encode()


LIMITS = Ingest()


@pytest.mark.parametrize(
    ("changes", "camera"),
    [
        ({}, "netgear"),
        ({"port": "5577"}, "netgear-5577"),
        ({"port": 5577}, "netgear-5577"),
        ({"port": "5577", "message": {"camera": "front"}}, "front"),
        ({"message": "frame 12 of today"}, "netgear"),
        ({"message": {"camera": "../etc"}}, "etc"),
        ({"message": {"camera": 7}}, "netgear"),
        ({"port": ["x"]}, "netgear"),
    ],
)
def test_the_camera_of_a_sender_that_has_no_name(changes: dict[str, Any], camera: str) -> None:
    message = wire.parse([header(**changes), jpeg()], LIMITS)

    assert isinstance(message, ForeignFrame)
    assert (message.protocol, message.camera, message.shape) == ("netgear", camera, None)


@pytest.mark.parametrize("parts", [[b'{"terminate_flag": true}'], [header(terminate_flag=True), b"image"]])
def test_the_goodbye_may_have_an_image_or_none(parts: list[bytes]) -> None:
    assert wire.parse(parts, LIMITS) == Goodbye()


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([header()], "parts"),
        ([header(), b"a", b"b"], "parts"),
        ([header(), b""], "image"),
        ([header(terminate_flag="no"), b"image"], "header"),
        ([header(compression=False), b"image"], "shape"),
        ([header(compression=False, shape=[4, 4, 5], dtype="uint8"), bytes(80)], "shape"),
        ([header(compression=False, shape=[4, 4, 3], dtype="uint8"), bytes(47)], "shape"),
        ([header(compression=False, shape=[4, "4", 3], dtype="uint8"), bytes(48)], "header"),
    ],
)
def test_a_wrong_message_is_refused(parts: list[bytes], reason: str) -> None:
    with pytest.raises(WireError) as caught:
        wire.parse(parts, LIMITS)

    assert (caught.value.reason, caught.value.protocol) == (reason, "netgear")
    assert json.loads(wire.refused(caught.value))["data"]["code"] == reason


def test_visitors_of_the_bound_sub_need_a_known_key(store: Store, tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys", "front")
    with running(
        store,
        bind=(),
        subscribe_bind=("tcp://127.0.0.1:*",),
        curve=ring.server,
        admission=Admission(clients=ring.server.clients, bind_cameras=True),
    ) as harness:
        (endpoint,) = harness.ingest.visited_endpoints
        with harness.context.socket(zmq.PUB) as sender:
            sender.linger = 0
            curve = ring.client("front")
            join(sender, curve.pair, curve.server_key)
            sender.connect(endpoint)
            _published(harness, sender, "front", ("front", "kept"))
            _published(harness, sender, "door", ("", "rejected"))
        assert set(harness.recorder.refusals) == {"foreign_camera"}


def _published(harness: Harness, sender: zmq.Socket[bytes], camera: str, outcome: tuple[str, str]) -> None:
    kept = harness.recorder.frames
    for number in range(1000):
        sender.send_multipart([json.dumps({"msg": camera}).encode(), jpeg(number)])
        if harness.recorder.waits_for(lambda: kept[outcome] >= 1, timeout=0.02):
            return
    raise AssertionError(kept)


def test_an_address_that_is_taken_names_its_key(tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as taken:
        port = taken.bind_to_random_port("tcp://127.0.0.1")
        opening = {"bind": (), "subscribe": (), "max_part_bytes": 1 << 20}
        with pytest.raises(AddressInUse, match=r"ingest\.subscribe_bind"):
            Receiver(context, subscribe_bind=(f"tcp://127.0.0.1:{port}",), **opening)
        with pytest.raises(ListenError, match=r"ingest\.subscribe_bind"):
            Receiver(context, subscribe_bind=(f"ipc://{tmp_path}/none/x",), **opening)
