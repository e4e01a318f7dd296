"""Who may send what and how much, over real sockets with real keys."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
import zmq
from ingest_harness import PATIENCE, HeldStore, guarded, header, jpeg, label, label_parts, running
from keyring import Keyring

from dance_ondevice.daemon.ingest import admission as admissions
from dance_ondevice.daemon.ingest.admission import Admission
from dance_ondevice.daemon.security.curve import serve
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import CAMERA_NAME, StatePaths
from dance_ondevice.daemon.wire.receiver import ListenError, Origin
from dance_ondevice.policies.stream.sender_limits import SenderLimits


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys", "front", "door")


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admissions, "SCAN_EVERY", 0.0)


def test_known_clients_send_and_a_stranger_does_not(store: Store, ring: Keyring, tmp_path: Path) -> None:
    stranger = Keyring(tmp_path / "other", "front").client("front")
    with running(store, curve=ring.server, admission=Admission(clients=ring.server.clients)) as harness:
        assert harness.client(zmq.REQ, curve=ring.client("front")).ask(header(), jpeg()).kept
        assert harness.client(curve=ring.client("door")).ask(header(seq=1), jpeg(1)).kept
        for curve in (None, stranger):
            # Where it was turned away already, there is nobody to send to, which a plain send would wait for.
            with contextlib.suppress(zmq.Again):
                harness.client(curve=curve).socket.send_multipart([header(seq=2), jpeg(2)], zmq.NOBLOCK)
        # The strangers' frames would have been here first.
        assert harness.client(curve=ring.client("door")).ask(header(seq=3), jpeg(3)).kept
        assert harness.recorder.count() == 3


def test_a_revoked_client_is_refused_in_the_middle_of_its_connection(store: Store, ring: Keyring) -> None:
    with running(store, curve=ring.server, admission=Admission(clients=ring.server.clients)) as harness:
        front, door = (harness.client(curve=ring.client(name)) for name in ("front", "door"))
        kept = front.ask(header(), jpeg())
        text = ring.public_file("front").read_bytes()
        ring.public_file("front").unlink()

        # The next look may come right after this message was taken, so that the first may still be good.
        replies = [front.ask(header(seq=seq), jpeg(seq)) for seq in (1, 2)]
        of_label = front.ask(*label_parts(str(kept.id), label()))

        assert (replies[-1].ok, replies[-1].code, replies[-1].seq) == (False, "revoked", 2)
        assert (of_label.code, of_label.id) == ("revoked", kept.id)
        assert door.ask(header(camera="door"), jpeg(3)).kept
        refused = sum(reply.code == "revoked" for reply in replies)
        assert harness.recorder.refusals == {"revoked": refused + 1}
        assert harness.recorder.frames["front", "rejected"] == refused
        ring.public_file("front").write_bytes(text)
        back = [front.ask(header(seq=seq), jpeg(seq)).ok for seq in (4, 5)]
        assert back[-1]


def test_a_client_may_be_bound_to_the_camera_of_its_name(
    store: Store, paths: StatePaths, ring: Keyring
) -> None:
    admission = Admission(clients=ring.server.clients, bind_cameras=True)
    with running(store, curve=ring.server, admission=admission) as harness:
        front, door = (harness.client(curve=ring.client(name)) for name in ("front", "door"))
        sample = front.ask(header(camera="front"), jpeg())
        assert sample.kept
        assert door.ask(header(camera="door", seq=1), jpeg(1)).kept

        foreign = door.ask(header(camera="front", seq=2), jpeg(2))
        foreign_label = door.ask(*label_parts(str(sample.id), label()))
        door.socket.send_multipart([b'{"msg": "front"}', jpeg(3)])
        imagezmq = door.socket.recv()

        assert (foreign.ok, foreign.code, foreign.camera, foreign.seq) == (
            False,
            "foreign_camera",
            "front",
            2,
        )
        assert (foreign_label.code, foreign_label.id) == ("foreign_camera", sample.id)
        assert imagezmq.startswith(b"ERROR the client door")
        assert harness.recorder.refusals == {"foreign_camera": 3}
        assert harness.recorder.frames["front", "rejected"] == 2
        assert front.ask(*label_parts(str(sample.id), label())).ok
    assert {path.name for path in paths.samples.iterdir()} == {"front", "door"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("limits", "key"),
    [
        (SenderLimits(frames_per_second=2), "max_frames_per_second"),
        (SenderLimits(bytes_per_second=2 * len(jpeg(0) + header())), "max_bytes_per_second"),
    ],
)
def test_what_is_beyond_a_limit_is_rejected_and_counted(store: Store, limits: SenderLimits, key: str) -> None:
    clock = Clock()
    with running(store, admission=Admission(limits=limits, monotonic=clock)) as harness:
        greedy, modest = harness.client(), harness.client()
        replies = [greedy.ask(header(seq=seq), jpeg(0)) for seq in range(8)]
        junk = greedy.ask(b"junk", b"junk")

        kept = sum(reply.kept is True for reply in replies)
        assert kept in (4, 5)
        assert [reply.ok for reply in replies] == [True] * kept + [False] * (8 - kept)
        last = replies[-1]
        assert (last.code, last.camera, last.seq) == ("rate", "front", 7)
        assert last.error.startswith("rejected")
        assert f"ingest.{key}" in last.error
        assert junk.code == "header"
        assert harness.recorder.refusals == {"rate": 8 - kept, "header": 1}
        assert modest.ask(header(camera="other"), jpeg(9)).kept, "each sender has limits of its own"
        clock.now += 1.0
        assert greedy.ask(header(seq=8), jpeg(0)).kept
        assert harness.recorder.count() == 11
        assert (harness.recorder.count("kept"), harness.recorder.count("rejected")) == (kept + 2, 9 - kept)


def test_with_keys_a_new_connection_does_not_renew_the_allowance(store: Store, ring: Keyring) -> None:
    admission = Admission(
        clients=ring.server.clients, limits=SenderLimits(frames_per_second=1), monotonic=Clock()
    )
    with running(store, curve=ring.server, admission=admission) as harness:
        codes = [
            harness.client(curve=ring.client("front")).ask(header(seq=seq), jpeg(seq)).code
            for seq in range(4)
        ]
        assert codes == [None, None, "rate", "rate"]
        assert harness.client(curve=ring.client("door")).ask(header(seq=9), jpeg(9)).ok


def test_the_memory_of_senders_is_bounded() -> None:
    clock = Clock()
    admission = Admission(limits=SenderLimits(frames_per_second=0.5), monotonic=clock)
    faithful = Origin(b"", source="faithful")
    assert admission.draw(faithful, 1) == ""
    for number in range(5000):
        admission.draw(Origin(b"", source=str(number)), 1)
        if number % 500 == 0:
            assert admission.draw(faithful, 1) == "frames", "whoever goes on sending is not forgotten"
    assert len(admission._allowances) == 1024


def test_a_flood_costs_the_others_nothing(store: Store, ring: Keyring) -> None:
    """One client floods under many camera names while the disk stands still; the other's frames stay."""
    held = HeldStore()
    with running(
        held, curve=ring.server, admission=Admission(clients=ring.server.clients), queue_frames=8
    ) as harness:
        flood, modest = (harness.client(curve=ring.client(name)) for name in ("front", "door"))
        for seq in range(8):
            flood.socket.send_multipart([header(camera=f"f{seq}", seq=seq), jpeg(seq)])
            held.wait()
        for seq in range(2):
            modest.socket.send_multipart([header(camera="door", seq=seq), jpeg(seq)])
        for seq in range(8, 48):
            flood.socket.send_multipart([header(camera=f"f{seq}", seq=seq), jpeg(seq)])
        # 8 wait for the disk, 8 in the queue, two of them the other's.
        harness.recorder.wait_for(lambda: harness.recorder.count("overflow") == 34)
        assert harness.recorder.count() == 34
        for number in range(16):
            if number >= 8:
                held.wait()
            held.keep(number)
        assert {modest.answer().seq for _ in range(2)} == {0, 1}
        harness.recorder.wait_for(lambda: harness.recorder.count("kept") == 16)
        assert harness.recorder.count() == 50, "sent = kept + dropped + rejected + overflow"


def publish(
    context: zmq.Context, ring: Keyring, name: str, endpoint: str = "tcp://127.0.0.1:*"
) -> zmq.Socket:
    """A PUB sender that holds a client's key, behind its own context's authenticator."""
    socket = context.socket(zmq.XPUB)
    socket.linger = 0
    socket.rcvtimeo = int(PATIENCE * 1000)
    serve(socket, ring.client(name).pair)
    socket.bind(endpoint)
    return socket


def test_publishers_are_heard_while_their_key_is_known(store: Store, ring: Keyring) -> None:
    admission = Admission(clients=ring.server.clients, bind_cameras=True)
    daemon_alone = Keyring(ring.folder.parent / "daemon", "daemon")
    daemon_alone.public_file("daemon").write_bytes((ring.folder / "server.key").read_bytes())
    with (
        zmq.Context() as context,
        guarded(context, daemon_alone.server),
        publish(context, ring, "front") as front,
        publish(context, ring, "door") as door,
    ):
        endpoints = tuple(socket.last_endpoint.decode() for socket in (front, door))
        with running(
            store,
            curve=ring.server,
            admission=admission,
            bind=(),
            subscribe=endpoints,
            publishers=("front", "door"),
        ) as harness:
            for socket in (front, door):
                assert socket.recv() == b"\x01"
            front.send_multipart([header(camera="front"), jpeg()])
            harness.recorder.wait_for(lambda: harness.recorder.count() == 1)
            door.send_multipart([header(camera="front", seq=1), jpeg(1)])
            harness.recorder.wait_for(lambda: harness.recorder.count() == 2)
            assert harness.recorder.frames == {("front", "kept"): 1, ("front", "rejected"): 1}
            assert harness.recorder.refusals == {"foreign_camera": 1}

            text = ring.public_file("front").read_bytes()
            ring.public_file("front").unlink()
            harness.ingest.wake()
            # An XPUB is told when its last subscriber leaves.
            assert front.recv() == b"\x00"
            ring.public_file("front").write_bytes(text)
            harness.ingest.wake()
            assert front.recv() == b"\x01"
            front.send_multipart([header(camera="front", seq=2), jpeg(2)])
            harness.recorder.wait_for(lambda: harness.recorder.frames["front", "kept"] == 2)


def test_a_publisher_without_a_key_stops_the_start(store: Store, ring: Keyring) -> None:
    with (
        pytest.raises(ListenError, match=r"'side'.*security\.publishers"),
        running(
            store,
            curve=ring.server,
            bind=(),
            subscribe=("tcp://127.0.0.1:1",),
            publishers=("side",),
        ),
    ):
        pass


def test_a_publisher_with_another_key_is_not_heard(store: Store, ring: Keyring) -> None:
    """Whoever sits at the address without the key gets no subscription, so nothing of it is heard."""
    everybody = Keyring(ring.folder.parent / "any", "daemon")
    everybody.public_file("daemon").write_bytes((ring.folder / "server.key").read_bytes())
    with (
        zmq.Context() as context,
        guarded(context, everybody.server),
        publish(context, ring, "door") as impostor,
        running(
            store,
            curve=ring.server,
            bind=("tcp://127.0.0.1:*",),
            subscribe=(impostor.last_endpoint.decode(),),
            publishers=("front",),
        ) as harness,
    ):
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        with impostor.get_monitor_socket(events | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL) as monitor:
            assert monitor.poll(PATIENCE * 1000)
            assert int.from_bytes(monitor.recv()[:2], "little") != zmq.EVENT_HANDSHAKE_SUCCEEDED
            impostor.disable_monitor()
        impostor.send_multipart([header(), jpeg()])
        assert harness.client(curve=ring.client("front")).ask(header(seq=5), jpeg()).kept
        assert harness.recorder.count() == 1


def test_names_of_cameras_never_leave_the_state_folder(store: Store, paths: StatePaths) -> None:
    names = ["../../x", "..", ".", "/etc/x", "a/../../b", "a\\..\\b", "a\0b", "", "x" * 65, ".git", "é"]
    outside = set(paths.root.parent.rglob("*")) - set(paths.root.rglob("*"))
    with running(store) as harness:
        client = harness.client()
        assert [client.ask(header(camera=name), jpeg()).code for name in names] == ["camera"] * len(names)
        for name in names:
            # imagezmq's text is free; what becomes of it is a name inside.
            client.socket.send_multipart([b'{"msg": "' + ascii(name)[1:-1].encode() + b'"}', jpeg()])
            client.socket.recv()
        for name in ("../../x-1-1", "../dance.db"):
            assert client.ask(*label_parts(name, label())).code == "unknown_sample"
    assert set(paths.root.parent.rglob("*")) - set(paths.root.rglob("*")) == outside
    cameras = stored_cameras(paths)
    assert cameras
    assert all(CAMERA_NAME.fullmatch(name) for name in cameras)


def stored_cameras(paths: StatePaths) -> list[str]:
    connection = sqlite3.connect(paths.database)
    try:
        return [row[0] for row in connection.execute("select distinct camera from samples")]
    finally:
        connection.close()
