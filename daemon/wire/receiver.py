"""The sockets that messages arrive on: ROUTER for REQ and DEALER senders, SUB for PUB senders.

Owned by one thread; only ``Receiver.wake`` may be called from others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from dance_ondevice.daemon.security.curve import ServerCurve, join, serve
from dance_ondevice.daemon.system.waker import Waker
from dance_ondevice.daemon.wire.connections import Connections
from dance_ondevice.daemon.wire.messages import MAX_PARTS, Buffer

log = logging.getLogger(__name__)

#: Messages that ZMQ holds for each sender before it stops reading from it.
_MESSAGES_HELD = 16
#: After a minute of silence the kernel probes whether a peer is still there, every 15 s.
_KEEPALIVE = ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 60), (zmq.TCP_KEEPALIVE_INTVL, 15))
#: Milliseconds in which a peer must have greeted, so that a port scan leaves nothing behind.
_HANDSHAKE_MS = 10_000
#: Milliseconds that the last replies have to leave after the sockets are closed.
_LINGER = 250


class ListenError(OSError):
    """An endpoint of the configuration that cannot be used; the text names the key to change."""


class AddressInUse(ListenError):  # noqa: N818 -- a state of the world, named as such
    """Another program already listens on the address."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom to answer and how.

    Attributes:
        identity: the sender's identity on the ROUTER; None for a PUB sender, which takes no answer.
        delimiter: whether the message came with an empty first part; the answer then has one, too.
        source: who sent it: with CURVE the public key (Z85), else the connection.
        connection: the descriptor that it came over; -1 where nobody counts connections.
    """

    identity: bytes | None
    delimiter: bool = False
    source: str = ""
    connection: int = -1


@dataclass(frozen=True, slots=True)
class Received:
    """One message: the first three of its parts, how many it had, and the bytes of all of them."""

    origin: Origin
    parts: tuple[Buffer, ...]
    count: int
    size: int


@dataclass(slots=True)
class _Subscription:
    """A PUB sender to connect to; ``socket`` is None while its key is not known.

    Attributes:
        name: the client whose key the sender must hold; "" without CURVE.
        key: that key, when the socket was opened; without CURVE the endpoint.
    """

    endpoint: str
    name: str
    key: str | None = None
    socket: zmq.Socket[bytes] | None = None


class Receiver:
    """The bound and connected sockets, and a way to interrupt the wait for them."""

    def __init__(
        self,
        context: zmq.Context[Any],
        *,
        bind: Sequence[str],
        subscribe: Sequence[str],
        max_part_bytes: int,
        curve: ServerCurve | None = None,
        publishers: Sequence[str] = (),
        watch: Callable[[zmq.Socket[Any]], Connections] | None = None,
    ) -> None:
        """Open everything.

        Args:
            context: makes the sockets.
            bind: endpoints of the ROUTER; a port may be ``*``.
            subscribe: endpoints of PUB senders.
            max_part_bytes: ZMQ cuts off a sender whose message has a larger part.
            curve: encrypt everything and admit known clients alone; None for plain sockets.
            publishers: with CURVE, the names of the clients behind ``subscribe``, in its order.
            watch: bounds the connections of the ROUTER; None for no bound.

        Raises:
            AddressInUse: something else is bound to one of ``bind``.
            ListenError: an endpoint is malformed, of no local address, or not permitted; or the key of a
                publisher is not known.
        """
        self._context = context
        self._max_part_bytes = max_part_bytes
        self._curve = curve
        self._waker = Waker()
        self._poller = zmq.Poller()
        self._poller.register(self._waker.fileno(), zmq.POLLIN)
        self._router: zmq.Socket[bytes] | None = None
        self._connections: Connections | None = None
        names = publishers if curve else [""] * len(subscribe)
        self._subscriptions = [_Subscription(*pair) for pair in zip(subscribe, names, strict=True)]
        self.endpoints: tuple[str, ...] = ()
        try:
            if bind:
                self._router = self._open(zmq.ROUTER, bind)
                if curve:
                    serve(self._router, curve.pair)
                if watch is not None:
                    self._connections = watch(self._router)
                self.endpoints = tuple(_bind(self._router, endpoint) for endpoint in bind)
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
        """Leave publishers whose key was revoked, and go to those whose key is there (again) or another."""
        for subscription in self._subscriptions:
            self._tend(subscription)

    def wait(self, timeout: float) -> None:
        """Return when a message is there, ``wake`` was called, or ``timeout`` seconds have passed."""
        for ready, _ in self._poller.poll(round(timeout * 1000)):
            if ready == self._waker.fileno():
                self._waker.clear()

    def wait_for_wake(self, timeout: float) -> None:
        """Return when ``wake`` was called or ``timeout`` seconds have passed, whatever arrives."""
        self._waker.wait(timeout)

    def wake(self) -> None:
        """End a wait, now or the next; callable from any thread, also after ``close``."""
        self._waker.wake()

    def drain(self, limit: int) -> Iterator[Received]:
        """Take what has arrived, at most ``limit`` messages from each socket."""
        if self._router is not None:
            yield from self._drain(self._router, None, limit)
        for subscription in self._subscriptions:
            if subscription.socket is not None:
                origin = Origin(None, source=subscription.key or "")
                yield from self._drain(subscription.socket, origin, limit)

    def reply(self, origin: Origin, payload: bytes) -> None:
        """Answer a message; does nothing for PUB senders, nor when the sender is gone or does not read."""
        if origin.identity is None or self._router is None:
            return
        if self._connections is not None:
            self._connections.answered(origin.connection)
        parts = [origin.identity, b"", payload] if origin.delimiter else [origin.identity, payload]
        try:
            self._router.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            log.warning("reply dropped reason=%s", "the sender does not read")

    def close(self) -> None:
        """Close the sockets; the last replies get a moment to leave."""
        self._waker.close()
        for socket in (self._router, *(subscription.socket for subscription in self._subscriptions)):
            if socket is not None:
                socket.close(linger=_LINGER)

    def _tend(self, subscription: _Subscription) -> None:
        key = self._curve.clients.key_of(subscription.name) if self._curve else subscription.endpoint
        if key == subscription.key:
            return
        if subscription.socket is not None:
            self._poller.unregister(subscription.socket)
            subscription.socket.close(linger=0)
            subscription.socket = None
            log.warning("publisher left endpoint=%s name=%s", subscription.endpoint, subscription.name)
        subscription.key = key
        if key is None:
            return
        socket = subscription.socket = self._open(zmq.SUB, [subscription.endpoint])
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        if self._curve:
            join(socket, self._curve.pair, key.encode("ascii"))
        _connect(socket, subscription.endpoint)

    def _drain(self, socket: zmq.Socket[bytes], origin: Origin | None, limit: int) -> Iterator[Received]:
        for _ in range(limit):
            received = _receive(
                socket, origin, secured=self._curve is not None, counted=self._connections is not None
            )
            if received is None:
                break
            if self._connections is not None and received.origin.connection >= 0:
                self._connections.heard(received.origin.connection)
            yield received

    def _open(self, kind: int, endpoints: Sequence[str]) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, _MESSAGES_HELD)
        socket.setsockopt(zmq.MAXMSGSIZE, self._max_part_bytes)
        socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        for option, value in _KEEPALIVE:
            socket.setsockopt(option, value)
        # An IPv6 socket takes IPv4 names as well, but not on kernels without IPv6.
        socket.setsockopt(zmq.IPV6, any("[" in endpoint for endpoint in endpoints))
        self._poller.register(socket, zmq.POLLIN)
        return socket


def _receive(
    socket: zmq.Socket[bytes], origin: Origin | None, *, secured: bool, counted: bool
) -> Received | None:
    """Take one message, part by part, keeping none beyond the third; None when there is none.

    Args:
        socket: a SUB, or the ROUTER.
        origin: whom the SUB listens to; None for the ROUTER.
        secured: whether the ROUTER's senders are known by their keys.
        counted: whether the ROUTER's connections are counted.
    """
    try:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return None
    if origin is None:
        identity = frame.bytes
        # libzmq delivers whole messages, so the other parts are there.
        frame = socket.recv(copy=False)
        source = str(frame.get("User-Id")) if secured else identity.hex()
        connection = int(frame.get(zmq.SRCFD)) if counted else -1
        delimiter = len(frame) == 0 and frame.more
        if delimiter:
            frame = socket.recv(copy=False)
        origin = Origin(identity, delimiter, source, connection)
    parts: list[Buffer] = [frame.buffer]
    count, size = 1, len(frame)
    while frame.more:
        frame = socket.recv(copy=False)
        count += 1
        size += len(frame)
        if count <= MAX_PARTS:
            parts.append(frame.buffer)
    return Received(origin, tuple(parts), count, size)


def _bind(socket: zmq.Socket[bytes], endpoint: str) -> str:
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise AddressInUse(
                f"cannot listen on {endpoint}: another program does; stop it, or choose another address "
                "for ingest.bind"
            ) from error
        raise ListenError(f"cannot listen on {endpoint}: {error}; change ingest.bind") from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise ListenError(f"cannot subscribe to {endpoint}: {error}; change ingest.subscribe") from error
