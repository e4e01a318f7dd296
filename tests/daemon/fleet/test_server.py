"""The fleet's server behind its real socket: who gets in, and what too much of anything meets."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from small_fleet import FIRST, ROOT, RULES, Clock, Server, name_of, offer

from dance_ondevice.daemon.fleet.link import Link, NoServer, Refused
from dance_ondevice.daemon.fleet.making import DamagedOfferError, Made
from dance_ondevice.daemon.fleet.rates import Rates
from dance_ondevice.daemon.fleet.server import FleetServer, Maker
from dance_ondevice.daemon.security import kit
from dance_ondevice.daemon.security.curve import ClientCurve, serve
from dance_ondevice.daemon.security.keys import KeyPair
from dance_ondevice.daemon.security.zap import ZapAuthenticator
from dance_ondevice.daemon.wire import fleet_messages as messages
from dance_ondevice.models.card import CARD_FILE, TENSORS_FILE

SYNC = messages.Sync(id=0, root=ROOT.sha256)


@pytest.fixture
def kits(tmp_path: Path) -> kit.Written:
    model = tmp_path / "model"
    model.mkdir()
    for name in (TENSORS_FILE, CARD_FILE):
        (model / name).write_bytes(b"x")
    return kit.write(
        tmp_path / "fleet", ["front", "yard"], root=ROOT, model=model, bind="tcp://*:1", endpoint="tcp://x:1"
    )


@pytest.fixture
def server(kits: kit.Written, tmp_path: Path) -> Iterator[FleetServer]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    curve = kit.open_server(kits.server, {}).curve
    desk = Server(tmp_path / "state", Clock()).desk
    zap = ZapAuthenticator(context, curve.clients.name_of, on_refused=desk.tallies.unknown_key)
    zap.start()
    found = FleetServer(
        context,
        "tcp://127.0.0.1:*",
        curve,
        desk,
        lambda wake: Maker(ROOT, RULES, on_done=wake),
        most_requests=4.0,
    )
    found.start()
    yield found
    assert found.stop()
    assert zap.stop()
    context.term()
    assert found.failure is None


@pytest.fixture
def link(server: FleetServer, kits: kit.Written) -> Iterator[Callable[..., Link]]:
    opened: list[Link] = []

    def connect(board: str = "front", *, curve: ClientCurve | None = None, seconds: float = 30.0) -> Link:
        curve = curve or kit.open_board(kits.boards[board], {}).curve
        opened.append(Link(server.endpoint, curve, answer_seconds=seconds))
        return opened[-1].__enter__()

    yield connect
    for each in opened:
        each.__exit__(None, None, None)


def test_a_board_is_known_by_its_key(
    server: FleetServer, link: Callable[..., Link], kits: kit.Written
) -> None:
    front = link()
    answer, _ = front.ask(SYNC)
    assert isinstance(answer, messages.Synced)
    data = offer(1.0)
    ref = messages.OfferRef(id=name_of(data), size=len(data))
    answer, _ = front.ask(messages.Put(id=0, offer=ref, offset=0), data)
    assert answer.offer.state == "waiting"
    # A piece of the largest size passes the socket, encrypted as it is.
    big = messages.OfferRef(id="0" * 64, size=messages.PIECE)
    with pytest.raises(Refused, match="an offer has at most"):
        front.ask(messages.Put(id=0, offer=big, offset=0), b"x" * messages.PIECE)
    # A stranger gets no answer at all, and need not wait to learn why.
    public, secret = zmq.curve_keypair()
    known = kit.open_board(kits.boards["front"], {}).curve
    stranger = link(curve=ClientCurve(KeyPair(public, secret), known.server_key))
    with pytest.raises(NoServer, match="does not know this board's key"):
        stranger.ask(SYNC)
    assert server.desk.tallies.refused["key"] == 1
    # Nor does a server that is another one get a request.
    impostor = link(curve=ClientCurve(known.pair, public), seconds=1.0)
    with pytest.raises(NoServer, match="is not the server of this kit"):
        impostor.ask(SYNC)
    # A revoked board is told so, at the latest at the next look at the folder.
    (kits.server / "clients" / "yard.key").unlink()
    with pytest.raises((NoServer, Refused)):
        link("yard", seconds=1.0).ask(SYNC)


def test_too_many_requests_wait(link: Callable[..., Link]) -> None:
    front = link()

    def hurry() -> None:
        for _ in range(200):
            front.ask(SYNC)

    with pytest.raises(Refused, match="too many requests") as caught:
        hurry()
    assert 0 < caught.value.retry_s <= 1


def test_a_connection_that_was_idle_is_not_trusted(server: FleetServer, kits: kit.Written) -> None:
    """A router on the way forgets a connection that nothing goes over, and tells neither end."""
    at = [0.0]
    curve = kit.open_board(kits.boards["front"], {}).curve
    with Link(server.endpoint, curve, monotonic=lambda: at[0]) as front:
        front.ask(SYNC)
        first = front._socket
        at[0] += 29.0
        front.ask(SYNC)
        assert front._socket is first
        at[0] += 31.0
        front.ask(SYNC)
        assert front._socket is not first
    assert first is not None
    assert first.closed


def test_a_slow_radio_gets_its_time(kits: kit.Written) -> None:
    """A piece that is given up after a minute begins anew, and would never arrive."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    curve = kit.open_server(kits.server, {}).curve
    zap = ZapAuthenticator(context, curve.clients.name_of)
    zap.start()
    router = context.socket(zmq.ROUTER)
    serve(router, curve.pair)
    router.bind("tcp://127.0.0.1:*")
    at, step, late = [0.0], [150.0], threading.Event()

    def monotonic() -> float:
        at[0] += step[0]
        if at[0] > 300.0:
            late.set()
        return at[0]

    def answer() -> None:
        sender, ask, _ = router.recv_multipart()
        late.wait(60)
        refusal = messages.Refusal(id=messages.decode_ask(ask).id, reason="late")
        router.send_multipart([sender, messages.encode(refusal), b""])

    thread = threading.Thread(target=answer)
    thread.start()
    board = kit.open_board(kits.boards["front"], {}).curve
    endpoint = router.get_string(zmq.LAST_ENDPOINT)
    # Time begins once the connection stands, which a busy machine may take long for.
    link = Link(endpoint, board, monotonic=lambda: at[0] if link._reached == 0 else monotonic())
    with link:
        with pytest.raises(Refused, match="late"):
            link.ask(SYNC)
        thread.join()
        # A connection that breaks is not waited for as long.
        step[0] = 0.0
        thread = threading.Thread(target=lambda: (router.recv_multipart(), router.close(0)))
        thread.start()
        with pytest.raises(NoServer, match="broke"):
            link.ask(SYNC)
    thread.join()
    assert zap.stop()
    context.term()


def test_endpoints_may_be_ipv6_and_a_wrong_one_is_told(kits: kit.Written, tmp_path: Path) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    curve = kit.open_server(kits.server, {}).curve
    board = kit.open_board(kits.boards["front"], {}).curve
    zap = ZapAuthenticator(context, curve.clients.name_of)
    zap.start()
    desk = Server(tmp_path / "six", Clock()).desk
    server = FleetServer(
        context,
        "tcp://[::1]:*",
        curve,
        desk,
        lambda wake: Maker(ROOT, RULES, on_done=wake),
        most_requests=4.0,
    )
    server.start()
    try:
        with Link(server.endpoint, board) as front:
            assert front.ask(SYNC)[0].published.number == 0
        # So may names; of several addresses each has its turn.
        port = int(server.endpoint.rpartition(":")[2])
        family, stream = socket.AF_INET6, socket.SOCK_STREAM
        found = [
            (socket.AF_INET, stream, 6, "", ("127.0.0.1", port)),
            (family, stream, 6, "", ("::1", port, 0, 0)),
        ]
        name = f"tcp://fleet.example.org:{port}"
        with Link(name, board, answer_seconds=1.0, resolve=lambda *_, **__: found) as front:
            with pytest.raises(NoServer, match="cannot be reached"):
                front.ask(SYNC)
            assert front.ask(SYNC)[0].published.number == 0
    finally:
        assert server.stop()
        assert zap.stop()
        context.term()
    with Link("fleet.example.org:5590", board) as front, pytest.raises(NoServer, match=r"kit\.json"):
        front.ask(SYNC)

    def unknown(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    with (
        Link("tcp://fleet.example.org:1", board, resolve=unknown) as front,
        pytest.raises(NoServer, match=r"the name fleet\.example\.org is not known here"),
    ):
        front.ask(SYNC)


def test_a_damaged_offer_is_let_go_of(kits: kit.Written, tmp_path: Path) -> None:
    """Its board hands it in again; until then averaging would fail on it each time."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    found = Server(tmp_path / "state", Clock())
    found.put("front", offer(1.0))
    path = found.shelf.offer("front", name_of(offer(1.0)))
    path.write_bytes(b"x")

    class Broken(Maker):
        def result(self) -> Made | Exception | None:
            return DamagedOfferError(path)

    curve = kit.open_server(kits.server, {}).curve
    server = FleetServer(
        context,
        "tcp://127.0.0.1:*",
        curve,
        found.desk,
        lambda wake: Broken(ROOT, RULES, on_done=wake),
        most_requests=4.0,
    )
    server._look()
    assert (found.desk.waiting(), path.exists()) == ({}, False)
    assert found.put("front", offer(1.0)).state == "waiting"
    context.term()


def test_what_is_no_request_is_refused(server: FleetServer, link: Callable[..., Link]) -> None:
    front = link()
    front.ask(SYNC)
    socket = front._open()
    whole = {"op": "get", "id": 1, "sha256": name_of(FIRST)}
    sync = {"op": "sync", "id": 1, "root": ROOT.sha256}
    none_of_them = (
        *(b"", b"{", b'{"op": "rm"}'),
        # Numbers beyond a file's, and names that would be paths: no request ends the thread that serves all.
        *(msgspec.json.encode({**whole, "offset": offset}) for offset in (-1, 2**53 + 1)),
        json.dumps({**whole, "offset": 2**70}).encode(),
        *(
            msgspec.json.encode({**sync, "offer": {"id": name, "size": 1}})
            for name in ("../" * 21 + "x", "a" * 63 + "\0", "a" * 64 + "\n", "A" * 64)
        ),
        b'{"op": "sync", "id": 1, "v": 99, "root": ""}',
    )
    for data in none_of_them:
        socket.send_multipart([data])
        answer = messages.decode_answer(socket.recv_multipart()[0])
        assert isinstance(answer, messages.Refusal), data
    assert "protocol 99" in answer.reason
    assert server.desk.tallies.refused["request"] == len(none_of_them)


def test_a_bucket_of_requests_fills_again() -> None:
    at = [0.0]
    rates = Rates(2.0, lambda: at[0])
    assert sum(rates.wait_s("front") == 0.0 for _ in range(50)) == 10
    assert rates.wait_s("yard") == 0.0
    wait = rates.wait_s("front")
    assert 0 < wait <= 0.5
    at[0] += wait
    assert rates.wait_s("front") == 0.0


def test_neither_process_imports_torch() -> None:
    code = (
        "import sys\n"
        "import dance_ondevice.daemon.commands.fleet.processes, dance_ondevice.daemon.fleet.join\n"
        "import dance_ondevice.daemon.fleet.serve\n"
        "print([m for m in ('torch', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
