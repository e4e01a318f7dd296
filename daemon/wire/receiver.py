"""The daemon's receiving sockets: ROUTER for REQ and DEALER senders, SUB for PUB senders.

Owned by one thread; other threads may only call ``Receiver.wake``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from dance_ondevice.daemon.security.curve import ServerCurve, join, serve
from dance_ondevice.daemon.system.waker import Waker
from dance_ondevice.daemon.wire.connections import Connections, Watch, descriptor_of
from dance_ondevice.daemon.wire.messages import MAX_PARTS, Buffer

log = logging.getLogger(__name__)

#: Number of messages that ZMQ holds for each sender before it stops reading from it.
_MESSAGES_HELD = 16
#: After a minute of silence the kernel probes every 15 s whether a peer is still there.
_KEEPALIVE = ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 60), (zmq.TCP_KEEPALIVE_INTVL, 15))
#: Milliseconds within which a peer must complete the handshake, so that port scans leave no connections.
_HANDSHAKE_MS = 10_000
#: Seconds after which a publisher whose handshake failed is tried again.
_AGAIN_SECONDS = 5.0
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
#: Sizes in an envelope, which sockets on the way prepend: routing ids (at most 255 bytes), request numbers
#: (4).
_ENVELOPE_PARTS = 16
_ENVELOPE_PART_BYTES = 255
#: A first part that is longer than a request number and looks like this is a header, whatever follows it.
_HEADER = (b"{", b"}", 4)
#: Milliseconds that the last replies have to leave after the sockets are closed.
_LINGER = 250


class ListenError(OSError):
    """An endpoint of the configuration cannot be used; the message names the key to change."""


class AddressInUse(ListenError):  # noqa: N818 -- a state of the world, named as such
    """Another program already listens on the address."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The sender of a message, and how to answer it.

    Attributes:
        identity: The sender's identity on the ROUTER; None for a PUB sender, which cannot be answered.
        envelope: The parts before the message, the empty delimiter last, which an answer must begin with.
            Empty for a DEALER that sends none.
        source: The sender: with CURVE the public key (Z85), else the connection.
        connection: The descriptor of its connection; -1 where connections are not counted.
    """

    identity: bytes | None
    envelope: tuple[bytes, ...] = ()
    source: str = ""
    connection: int = -1


@dataclass(frozen=True, slots=True)
class Received:
    """One message: its first three parts, the number of its parts, and the bytes of all of them."""

    origin: Origin
    parts: tuple[Buffer, ...]
    count: int
    size: int


@dataclass(slots=True)
class _Subscription:
    """A PUB sender to connect to; ``socket`` is None while its key is unknown.

    Attributes:
        name: The client whose key the sender must hold; "" without CURVE.
        key: That key when the socket was opened; without CURVE the endpoint.
        events: What libzmq tells of its connection.
        greeted: Whether its handshake has succeeded.
        again: When to open the socket anew, in monotonic seconds; None: no need.
        told: Whether the log has said that it fails.
    """

    endpoint: str
    name: str
    key: str | None = None
    socket: zmq.Socket[bytes] | None = None
    events: zmq.Socket[bytes] | None = None
    greeted: bool = False
    again: float | None = None
    told: bool = False


class Receiver:
    """The bound and connected sockets, and a way to interrupt the wait for them."""

    def __init__(
        self,
        context: zmq.Context[Any],
        *,
        bind: Sequence[str],
        subscribe: Sequence[str],
        subscribe_bind: Sequence[str] = (),
        max_part_bytes: int,
        curve: ServerCurve | None = None,
        publishers: Sequence[str] = (),
        watch: Watch | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open everything.

        Args:
            context: Makes the sockets.
            bind: Endpoints of the ROUTER; a port may be ``*``.
            subscribe: Endpoints of PUB senders that bind.
            subscribe_bind: Endpoints of a SUB that binds, for PUB senders that connect; a port may be ``*``.
            max_part_bytes: Size of a part above which ZMQ disconnects the sender.
            curve: Encrypts all sockets and admits only known clients; None for plain sockets.
            publishers: With CURVE, the names of the clients behind ``subscribe``, in its order.
            watch: Limits the connections of bound sockets; None for no limit.
            monotonic: Monotonic clock, in seconds.

        Raises:
            AddressInUse: Another program is bound to one of ``bind`` or ``subscribe_bind``.
            ListenError: An endpoint is malformed, not a local address, or not permitted; or the key of a
                publisher is unknown.
        """
        self._context = context
        self._max_part_bytes = max_part_bytes
        self._curve = curve
        self._waker = Waker()
        self._poller = zmq.Poller()
        self._poller.register(self._waker.fileno(), zmq.POLLIN)
        self._router: zmq.Socket[bytes] | None = None
        self._watch = watch
        self._monotonic = monotonic
        #: Of the bound sockets.
        self._connections: dict[zmq.Socket[bytes], Connections] = {}
        self._visited: zmq.Socket[bytes] | None = None
        names = publishers if curve else [""] * len(subscribe)
        self._subscriptions = [_Subscription(*pair) for pair in zip(subscribe, names, strict=True)]
        self.endpoints: tuple[str, ...] = ()
        self.visited_endpoints: tuple[str, ...] = ()
        try:
            if bind:
                self._router, self.endpoints = self._serve(zmq.ROUTER, bind, "ingest.bind")
            if subscribe_bind:
                self._visited, self.visited_endpoints = self._serve(
                    zmq.SUB, subscribe_bind, "ingest.subscribe_bind"
                )
                self._visited.setsockopt(zmq.SUBSCRIBE, b"")
            for subscription in self._subscriptions:
                self._tend(subscription)
                if subscription.socket is None:
                    raise ListenError(
                        f"cannot subscribe to {subscription.endpoint}: there is no key of a client named "
                        f"{subscription.name!r}; make one with `dance-ondevice keys generate --client`, or "
                        "change security.publishers"
                    )
        except BaseException:
            self.close()
            raise

    def tend(self) -> None:
        """Disconnect publishers whose key was revoked, and connect those whose key is new or changed."""
        for subscription in self._subscriptions:
            self._tend(subscription)

    def wait(self, timeout: float) -> None:
        """Wait until a message is there, ``wake`` was called, or ``timeout`` seconds have passed."""
        for ready, _ in self._poller.poll(round(timeout * 1000)):
            if ready == self._waker.fileno():
                self._waker.clear()
        for subscription in self._subscriptions:
            if subscription.events is not None:
                self._look_after(subscription, subscription.events)

    def wait_for_wake(self, timeout: float) -> None:
        """Wait until ``wake`` was called or ``timeout`` seconds have passed, ignoring messages."""
        self._waker.wait(timeout)

    def wake(self) -> None:
        """End a wait, now or the next; callable from any thread, also after ``close``."""
        self._waker.wake()

    def drain(self, limit: int) -> Iterator[Received]:
        """Take the messages that have arrived, at most ``limit`` from each socket."""
        if self._router is not None:
            yield from self._drain(self._router, None, limit)
        if self._visited is not None:
            yield from self._drain(self._visited, Origin(None), limit)
        for subscription in self._subscriptions:
            if subscription.socket is not None:
                origin = Origin(None, source=subscription.key or "")
                yield from self._drain(subscription.socket, origin, limit)

    def reply(self, origin: Origin, payload: bytes) -> None:
        """Answer a message; does nothing for PUB senders, or when the sender is gone or does not read."""
        if origin.identity is None or self._router is None:
            return
        if self._router in self._connections:
            self._connections[self._router].answered(origin.connection)
        try:
            self._router.send_multipart([origin.identity, *origin.envelope, payload], zmq.NOBLOCK)
        except zmq.Again:
            log.warning("reply dropped reason=%s", "the sender does not read")

    def close(self) -> None:
        """Close the sockets; the last replies get a moment to leave."""
        self._waker.close()
        for subscription in self._subscriptions:
            self._leave(subscription)
        for socket in (self._router, self._visited):
            if socket is not None:
                socket.close(linger=_LINGER)

    def _tend(self, subscription: _Subscription) -> None:
        key = self._curve.clients.key_of(subscription.name) if self._curve else subscription.endpoint
        if key == subscription.key:
            return
        if subscription.socket is not None:
            self._leave(subscription)
            log.warning("publisher left endpoint=%s name=%s", subscription.endpoint, subscription.name)
        subscription.key = key
        if key is None:
            return
        socket = subscription.socket = self._open(zmq.SUB, [subscription.endpoint])
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        if self._curve:
            join(socket, self._curve.pair, key.encode("ascii"))
        subscription.events = socket.get_monitor_socket(_EVENTS)
        self._poller.register(subscription.events, zmq.POLLIN)
        _connect(socket, subscription.endpoint)

    def _look_after(self, subscription: _Subscription, events: zmq.Socket[bytes]) -> None:
        """Connect anew some time after a handshake failed, after which libzmq may never try again."""
        while int(events.get(zmq.EVENTS)) & zmq.POLLIN:
            if recv_monitor_message(events)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                subscription.greeted, subscription.again, subscription.told = True, None, False
                continue
            if not subscription.greeted and subscription.again is None:
                subscription.again = self._monotonic() + _AGAIN_SECONDS
                if not subscription.told:
                    subscription.told = True
                    log.warning(
                        "publisher not understood endpoint=%s reason=%r",
                        subscription.endpoint,
                        "it is no PUB socket, or its CURVE and keys do not go with security.curve and "
                        f"security.publishers; tried again every {_AGAIN_SECONDS:g} s",
                    )
            subscription.greeted = False
        if subscription.again is not None and self._monotonic() >= subscription.again:
            self._leave(subscription)
            subscription.key = None
            self._tend(subscription)

    def _leave(self, subscription: _Subscription) -> None:
        """Close the sockets of a subscription."""
        if subscription.events is not None and subscription.socket is not None:
            subscription.socket.disable_monitor()
            self._poller.unregister(subscription.events)
            subscription.events.close(linger=0)
            subscription.events = None
        if subscription.socket is not None:
            self._poller.unregister(subscription.socket)
            subscription.socket.close(linger=0)
            subscription.socket = None
        subscription.greeted, subscription.again = False, None

    def _serve(
        self, kind: int, endpoints: Sequence[str], key: str
    ) -> tuple[zmq.Socket[bytes], tuple[str, ...]]:
        """A bound socket and its endpoints with real ports; ``key`` is their key in the configuration."""
        socket = self._open(kind, endpoints)
        if kind == zmq.ROUTER:
            # A sender with a routing id of its own comes back under it after a power cut, before its old
            # connection is known to be dead; libzmq would ignore the new one for good.
            socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        try:
            if self._curve:
                serve(socket, self._curve.pair)
            if self._watch is not None:
                self._connections[socket] = self._watch(socket)
            return socket, tuple(_bind(socket, endpoint, key) for endpoint in endpoints)
        except BaseException:
            socket.close(linger=0)
            raise

    def _drain(self, socket: zmq.Socket[bytes], origin: Origin | None, limit: int) -> Iterator[Received]:
        connections = self._connections.get(socket)
        secured = self._curve is not None
        for _ in range(limit):
            # Asked first: an exception for "none left" takes longer than a message.
            if not int(socket.get(zmq.EVENTS)) & zmq.POLLIN:
                break
            received = _receive(socket, origin, secured=secured, counted=connections is not None)
            if received is None:
                break
            if connections is not None:
                connections.heard(received.origin.connection, asks=socket is self._router)
            yield received

    def _open(self, kind: int, endpoints: Sequence[str]) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, _MESSAGES_HELD)
        socket.setsockopt(zmq.MAXMSGSIZE, self._max_part_bytes)
        socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        for option, value in _KEEPALIVE:
            socket.setsockopt(option, value)
        # An IPv6 socket also accepts IPv4 names, except on kernels without IPv6.
        socket.setsockopt(zmq.IPV6, any("[" in endpoint for endpoint in endpoints))
        self._poller.register(socket, zmq.POLLIN)
        return socket


def _receive(
    socket: zmq.Socket[bytes], origin: Origin | None, *, secured: bool, counted: bool
) -> Received | None:
    """Receive one message, part by part, keeping only the first parts; None when there is none.

    Args:
        socket: A SUB, or the ROUTER.
        origin: The peer of the SUB, with source "" where each message has its own; None for the ROUTER.
        secured: Whether senders are identified by their keys.
        counted: Whether the socket's connections are counted.
    """
    try:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return None
    identity = None
    if origin is None:
        identity = frame.bytes
        # libzmq delivers whole messages, so the other parts are available.
        frame = socket.recv(copy=False)
    connection = descriptor_of(frame) if counted else -1
    source = origin.source if origin else ""
    if not source:
        source = _source(frame, identity, secured=secured)
    parts: list[Buffer] = []
    kept = (_ENVELOPE_PARTS + 1 if identity is not None else 0) + MAX_PARTS
    count = size = 0
    while True:
        count += 1
        size += len(frame)
        if count <= kept:
            parts.append(frame.buffer)
        if not frame.more:
            break
        frame = socket.recv(copy=False)
    before = _envelope(parts, count) if identity is not None else 0
    return Received(
        Origin(identity, tuple(bytes(part) for part in parts[:before]), source, connection),
        tuple(parts[before : before + MAX_PARTS]),
        count - before,
        size,
    )


def _source(frame: zmq.Frame, identity: bytes | None, *, secured: bool) -> str:
    """The sender of a message, see ``Origin``; peers of a bound SUB are distinguished by their hosts."""
    if secured:
        return str(frame.get("User-Id"))
    if identity is not None:
        return identity.hex()
    try:
        return str(frame.get("Peer-Address"))
    except zmq.ZMQError:  # raised for ipc sockets
        return ""


def _envelope(parts: Sequence[Buffer], count: int) -> int:
    """Number of parts of the envelope: up to the first empty part, unless nothing follows it.

    A DEALER may send without an envelope; then its header is the first part, which is recognised even where
    its image is empty.

    Args:
        parts: The first parts after the sender's identity.
        count: Number of all parts.
    """
    begin, end, longer_than = _HEADER
    head = parts[0]
    if len(head) > longer_than and bytes(head[:1]) == begin and bytes(head[-1:]) == end:
        return 0
    for number, part in enumerate(parts[: _ENVELOPE_PARTS + 1], start=1):
        if len(part) == 0:
            return number if number < count else 0
        if len(part) > _ENVELOPE_PART_BYTES:
            break
    return 0


def _bind(socket: zmq.Socket[bytes], endpoint: str, key: str) -> str:
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise AddressInUse(
                f"cannot listen on {endpoint}: another program does; stop it, or choose another address "
                f"for {key}"
            ) from error
        raise ListenError(f"cannot listen on {endpoint}: {error}; change {key}") from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise ListenError(f"cannot subscribe to {endpoint}: {error}; change ingest.subscribe") from error
