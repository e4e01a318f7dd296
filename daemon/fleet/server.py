"""The server's threads: one answers boards and owns all files, one averages while the other goes on."""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections.abc import Callable
from typing import Any

import zmq

from dance_ondevice.daemon.fleet.desk import Desk
from dance_ondevice.daemon.fleet.making import DamagedOfferError, Made, Work, make
from dance_ondevice.daemon.fleet.rates import Rates
from dance_ondevice.daemon.security.clients import ClientKeys
from dance_ondevice.daemon.security.curve import ServerCurve, serve
from dance_ondevice.daemon.security.keys import KeysError
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.waker import Waker
from dance_ondevice.daemon.wire import fleet_messages as messages
from dance_ondevice.daemon.wire.connections import Connections, Watch, descriptor_of
from dance_ondevice.fleet.root import Root
from dance_ondevice.policies.fleet.rules import FleetRules

__all__ = ["FleetServer", "Maker"]

log = logging.getLogger(__name__)

_POLL_MS = 1000
#: Seconds between two looks at the clients' folder, at the votes, and at what waits.
_LOOK_EVERY_S = 1.0
#: Seconds after which it is tried again to make a version or to write down what was decided.
_TRY_AGAIN_S = 60.0
#: Requests that wait of each board; it has one under way.
_WAITING = 4


class Maker(Service):
    """The thread that makes a version; it is asked by ``begin``, and ``result`` tells."""

    # Ten thousand offers take minutes.
    max_silence = 3600.0

    def __init__(self, root: Root, rules: FleetRules, *, on_done: Callable[[], None]) -> None:
        """``on_done`` is called on this thread after each work."""
        super().__init__("fleet-maker")
        self._root = root
        self._rules = rules
        self._on_done = on_done
        self._works: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Made | Exception] = queue.SimpleQueue()
        self.busy = False
        self.seconds = 0.0

    def begin(self, work: Work) -> None:
        """Make a version; one at a time."""
        self.busy = True
        self._works.put(work)

    def result(self) -> Made | Exception | None:
        """What the work ended with; None while it goes on."""
        with contextlib.suppress(queue.Empty):
            found = self._results.get_nowait()
            self.busy = False
            return found
        return None

    def run(self) -> None:
        """Make versions until stopped."""
        while True:
            work = self._works.get()
            if work is None or self.stopping.is_set():
                return
            self.beat()
            began = time.monotonic()
            try:
                found: Made | Exception = make(self._root, work, self._rules)
            except Exception as error:  # of the disk or of a damaged file: the other thread reports it
                found = error
            self.seconds = time.monotonic() - began
            self._results.put(found)
            self._on_done()

    def wake(self) -> None:
        """End the wait for work."""
        self._works.put(None)


class FleetServer(Service):
    """The thread that answers boards; nobody else touches the desk."""

    def __init__(
        self,
        context: zmq.Context[Any],
        bind: str,
        curve: ServerCurve,
        desk: Desk,
        maker: Callable[[Callable[[], None]], Maker],
        *,
        most_requests: float,
        watch: Watch | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the thread; ``start`` binds.

        Args:
            context: One whose authenticator runs.
            bind: Where to listen, ``tcp://...``.
            curve: The server's keys, and its boards'.
            desk: What answers; this thread owns it from ``start`` on.
            maker: Makes the thread that averages; called with what wakes this one.
            most_requests: Of one board in a second.
            watch: Bounds the connections.
            monotonic: Clock in seconds.
        """
        super().__init__("fleet-server")
        self._context = context
        self._bind = bind
        self._curve = curve
        self.desk = desk
        self._rates = Rates(most_requests, monotonic)
        self._watch = watch
        self._monotonic = monotonic
        self._waker = Waker()
        self.maker = maker(self._waker.wake)
        self._socket: zmq.Socket[bytes] | None = None
        self._connections: Connections | None = None
        self._next_try = 0.0
        self.endpoint = ""

    def setup(self) -> None:
        """Bind.

        Raises:
            OSError: The address is in use or cannot be bound.
        """
        router = self._context.socket(zmq.ROUTER)
        self._socket = router
        router.linger = 0
        router.set(zmq.MAXMSGSIZE, messages.MOST_PART)
        router.set(zmq.RCVHWM, _WAITING)
        router.set(zmq.SNDHWM, _WAITING)
        router.set(zmq.TCP_KEEPALIVE, 1)
        router.set(zmq.TCP_KEEPALIVE_IDLE, 60)  # by default two hours
        router.set(zmq.IPV6, "[" in self._bind)
        serve(router, self._curve.pair)
        if self._watch is not None:
            self._connections = self._watch(router)
        try:
            router.bind(self._bind)
        except zmq.ZMQError as error:
            raise OSError(f"cannot listen at {self._bind}: {error.strerror}") from error
        self.endpoint = router.get_string(zmq.LAST_ENDPOINT)
        self.maker.start()
        log.info("fleet serves endpoint=%s boards=%d", self.endpoint, len(self._curve.clients.known))

    def run(self) -> None:
        """Answer, and decide now and then, until stopped."""
        assert self._socket is not None
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._waker.fileno(), zmq.POLLIN)
        looked = -_LOOK_EVERY_S
        while not self.stopping.is_set():
            self.beat()
            ready = dict(poller.poll(_POLL_MS))
            if self._waker.fileno() in ready:
                self._waker.clear()
            if self._socket in ready:
                self._serve_one(self._socket)
            if self._monotonic() - looked >= _LOOK_EVERY_S or self._waker.fileno() in ready:
                self._look()
                looked = self._monotonic()

    def wake(self) -> None:
        """End the wait for a request."""
        self._waker.wake()

    def teardown(self) -> None:
        """Close the socket and end the other thread."""
        if self._socket is not None:
            self._socket.close()
        self.maker.stop()
        self._waker.close()

    def _serve_one(self, router: zmq.Socket[bytes]) -> None:
        frames = router.recv_multipart(copy=False)
        if self._connections is not None:
            self._connections.heard(descriptor_of(frames[-1]), asks=False)
        sender, parts = frames[0].bytes, [frame.bytes for frame in frames[1:]]
        answer, data = self._answered(str(frames[-1].get("User-Id")), parts)
        with contextlib.suppress(zmq.Again):  # the board left or does not read
            router.send_multipart([sender, messages.encode(answer), data], zmq.NOBLOCK)

    def _answered(self, key: str, parts: list[bytes]) -> tuple[messages.Answer, bytes]:
        board = self._curve.clients.known.get(key)
        tallies = self.desk.tallies
        try:
            ask = messages.decode_ask(parts[0] if parts else b"")
        except messages.MessageError as error:
            tallies.refused["request"] += 1
            return messages.Refusal(id=0, reason=str(error)), b""
        if board is None:
            tallies.refused["request"] += 1
            return messages.Refusal(id=ask.id, reason="this board's key was revoked"), b""
        wait = self._rates.wait_s(board)
        if wait > 0.0:
            tallies.refused["rate"] += 1
            return messages.Refusal(id=ask.id, reason="too many requests", retry_s=wait), b""
        return self.desk.answer(board, ask, parts[1] if len(parts) > 1 else b"")

    def _look(self) -> None:
        _scan(self._curve.clients)
        try:
            made = self.maker.result()
            if isinstance(made, DamagedOfferError):
                log.warning("an offer is damaged and asked for again file=%s", made.path)
                self.desk.drop(made.path)
            elif isinstance(made, Exception):
                log.warning("no version was made error=%r", made)
                self._next_try = self._monotonic() + _TRY_AGAIN_S
            elif made is not None:
                self.desk.made(made)
            if self._monotonic() < self._next_try:
                return
            self.desk.decide()
            work = None if self.maker.busy else self.desk.work()
            if work is not None:
                self.maker.begin(work)
        except OSError as error:
            log.warning("the disk does not take what was decided error=%s", error)
            self._next_try = self._monotonic() + _TRY_AGAIN_S


def _scan(clients: ClientKeys) -> None:
    try:
        clients.scan()
    except (OSError, KeysError) as error:  # whoever is known stays so, as at the daemon
        log.warning("the boards' keys cannot be read error=%s", error)
