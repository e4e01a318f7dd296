"""The sockets that messages arrive on: ROUTER for REQ and DEALER senders, SUB for PUB senders.

Owned by one thread; only ``Receiver.wake`` may be called from others.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from dance_ondevice.daemon.wire import MAX_PARTS, Buffer

log = logging.getLogger(__name__)

#: Messages that ZMQ holds for each sender before it stops reading from it.
_MESSAGES_HELD = 16
#: After a minute of silence the kernel probes whether a peer is still there, every 15 s.
_KEEPALIVE = ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 60), (zmq.TCP_KEEPALIVE_INTVL, 15))
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
    """

    identity: bytes | None
    delimiter: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """One message: the first three of its parts, and how many it had."""

    origin: Origin
    parts: tuple[Buffer, ...]
    count: int


class Receiver:
    """The bound and connected sockets, and a way to interrupt the wait for them."""

    def __init__(
        self,
        context: zmq.Context[Any],
        *,
        bind: Sequence[str],
        subscribe: Sequence[str],
        max_part_bytes: int,
    ) -> None:
        """Open everything.

        Args:
            context: makes the sockets.
            bind: endpoints of the ROUTER; a port may be ``*``.
            subscribe: endpoints of PUB senders.
            max_part_bytes: ZMQ cuts off a sender whose message has a larger part.

        Raises:
            AddressInUse: something else is bound to one of ``bind``.
            ListenError: an endpoint is malformed, of no local address, or not permitted.
        """
        self._waker = Waker()
        self._poller = zmq.Poller()
        self._poller.register(self._waker.fileno(), zmq.POLLIN)
        self._sockets: list[zmq.Socket[bytes]] = []
        self._router: zmq.Socket[bytes] | None = None
        self.endpoints: tuple[str, ...] = ()
        try:
            if bind:
                self._router = self._open(context, zmq.ROUTER, bind, max_part_bytes)
                self.endpoints = tuple(_bind(self._router, endpoint) for endpoint in bind)
            if subscribe:
                sub = self._open(context, zmq.SUB, subscribe, max_part_bytes)
                sub.setsockopt(zmq.SUBSCRIBE, b"")
                for endpoint in subscribe:
                    _connect(sub, endpoint)
        except BaseException:
            self.close()
            raise

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
        for socket in self._sockets:
            for _ in range(limit):
                received = _receive(socket, routed=socket is self._router)
                if received is None:
                    break
                yield received

    def reply(self, origin: Origin, payload: bytes) -> None:
        """Answer a message; does nothing for PUB senders, nor when the sender is gone or does not read."""
        if origin.identity is None or self._router is None:
            return
        parts = [origin.identity, b"", payload] if origin.delimiter else [origin.identity, payload]
        try:
            self._router.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            log.warning("reply dropped reason=%s", "the sender does not read")

    def close(self) -> None:
        """Close the sockets; the last replies get a moment to leave."""
        self._waker.close()
        for socket in self._sockets:
            socket.close(linger=_LINGER)

    def _open(
        self, context: zmq.Context[Any], kind: int, endpoints: Sequence[str], max_part_bytes: int
    ) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = context.socket(kind)
        self._sockets.append(socket)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, _MESSAGES_HELD)
        socket.setsockopt(zmq.MAXMSGSIZE, max_part_bytes)
        for option, value in _KEEPALIVE:
            socket.setsockopt(option, value)
        # An IPv6 socket takes IPv4 names as well, but not on kernels without IPv6.
        socket.setsockopt(zmq.IPV6, any("[" in endpoint for endpoint in endpoints))
        self._poller.register(socket, zmq.POLLIN)
        return socket


class Waker:
    """An eventfd that other threads may signal; closing it cannot race with them."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._closed = False

    def fileno(self) -> int:
        """What to poll for reading."""
        return self._fd

    def wake(self) -> None:
        """Make the descriptor readable; does nothing once closed."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self._fd, 1)

    def wait(self, timeout: float) -> None:
        """Return when woken or after ``timeout`` seconds."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if poll.poll(timeout * 1000):
            self.clear()

    def clear(self) -> None:
        """Make the descriptor unreadable again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def close(self) -> None:
        """Release the descriptor; the number may be another file's from here on."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._fd)


def _receive(socket: zmq.Socket[bytes], *, routed: bool) -> Received | None:
    """Take one message, part by part, keeping none beyond the third; None when there is none."""
    try:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
    except zmq.Again:
        return None
    origin = Origin(None)
    if routed:
        identity = frame.bytes
        # libzmq delivers whole messages, so the other parts are there.
        frame = socket.recv(copy=False)
        delimiter = len(frame) == 0 and frame.more
        if delimiter:
            frame = socket.recv(copy=False)
        origin = Origin(identity, delimiter)
    parts: list[Buffer] = [frame.buffer]
    count = 1
    while frame.more:
        frame = socket.recv(copy=False)
        count += 1
        if count <= MAX_PARTS:
            parts.append(frame.buffer)
    return Received(origin, tuple(parts), count)


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
