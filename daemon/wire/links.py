"""The sender's sockets, which know whether somebody listens at the other end.

ZMQ reconnects silently. A sender learns about its connection from the socket's monitor (REQ and DEALER) or
from the subscriptions (XPUB, which SUB sockets accept like a PUB).
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import zmq
from zmq.utils.monitor import recv_monitor_message

from dance_ondevice.daemon.security.curve import ClientCurve, join, serve
from dance_ondevice.daemon.security.zap import ZapAuthenticator
from dance_ondevice.daemon.wire.messages import Buffer

#: Milliseconds between attempts to connect: the first and the longest interval.
_RECONNECT = (50, 1000)
#: Milliseconds after the last published frame within which all must have left.
_PUBLISH_LINGER = 5000
#: Milliseconds after which a connection is over whose other end acknowledges nothing, as after a power cut or
#: on a pulled cable; the kernel would take a quarter of an hour, and the attempts of frames would be used up.
#: A slow line acknowledges all the while.
_DEAD_MS = 20_000
#: Milliseconds for an attempt to connect; the kernel's own tries lie ever further apart, up to a minute.
_CONNECT_MS = 5_000
#: Seconds after which a failed handshake is tried again, since libzmq may then give up for good.
_ASK_AGAIN = 5.0
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
)
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _FAILED[0] | _FAILED[1] | _FAILED[2]


class LinkError(OSError):
    """An endpoint cannot be used."""


class Link(Protocol):
    """One way to send frames."""

    @property
    def endpoint(self) -> str:
        """The address, with a real port for a wildcard."""

    @property
    def answers(self) -> bool:
        """Whether frames are answered."""

    @property
    def listening(self) -> bool:
        """Whether somebody listens now."""

    @property
    def complaint(self) -> str:
        """Why the last connection failed although a peer is there; "" if it did not."""

    @property
    def epoch(self) -> int:
        """Number of the connection: an unanswered message of an earlier one may be lost."""

    def wait(self, timeout: float, *, to_send: bool) -> None:
        """Wait until something arrived or changed, or sending works (if asked for), or the time is up."""

    def send(self, parts: Sequence[Buffer]) -> bool:
        """Hand a message to the socket; False when that is not possible now."""

    def receive(self) -> bytes | None:
        """The next answer, if there is one."""

    def close(self, *, at_once: bool) -> None:
        """Close the sockets; unsent messages get a moment to leave unless ``at_once``."""


class AnsweredLink:
    """A DEALER, or a REQ that has only one frame in flight at a time."""

    answers = True

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        *,
        lockstep: bool,
        curve: ClientCurve | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start to connect.

        Args:
            context: Makes the sockets.
            endpoint: The daemon's endpoint, tcp or ipc.
            lockstep: Whether to use a REQ socket.
            curve: The keys to connect with; None for a plain connection.
            monotonic: Monotonic clock, in seconds.

        Raises:
            LinkError: The endpoint is malformed.
        """
        self._context = context
        self.endpoint = endpoint
        self._lockstep = lockstep
        self._curve = curve
        self._monotonic = monotonic
        self._ask_again: float | None = None
        self.complaint = ""
        self._unanswered = False
        self.listening = False
        self.epoch = 0
        self._open()

    def wait(self, timeout: float, *, to_send: bool) -> None:
        """See ``Link``."""
        self._poller.modify(self._socket, zmq.POLLIN | (zmq.POLLOUT if to_send else 0))
        self._poller.poll(max(0, round(timeout * 1000)))
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_DISCONNECTED and not self.listening and self._ask_again is None:
                self._ask_again = self._monotonic() + _ASK_AGAIN
            self.listening = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self.epoch += self.listening
            if self.listening:
                self.complaint, self._ask_again = "", None
            elif event in _FAILED:
                self.complaint = self._why(event)
                if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                    self._ask_again = self._monotonic() + _ASK_AGAIN
        if self._ask_again is not None and self._monotonic() >= self._ask_again:
            self._close()
            self._open()

    def send(self, parts: Sequence[Buffer]) -> bool:
        """See ``Link``; a REQ whose last request was not answered is first replaced by a new one."""
        if self._lockstep and self._unanswered:
            self._close()
            self._open()
        if not self.listening:
            return False
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._unanswered = True
        return True

    def receive(self) -> bytes | None:
        """See ``Link``."""
        if self._lockstep and not self._unanswered:
            return None
        try:
            parts = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        self._unanswered = False
        return parts[-1]

    def close(self, *, at_once: bool) -> None:
        """See ``Link``; unanswered frames would be sent again anyway, so the sockets are closed at once."""
        self._close()

    def _why(self, event: int) -> str:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return (
                "it does not know this key: put the public file into clients/ of the daemon's folder of keys"
            )
        if self._curve is None:
            return "no handshake: it may want a key, and something that speaks no ZMQ may listen there"
        return "no handshake: it may use no CURVE or have another key than the server key that was given"

    def _open(self) -> None:
        self._ask_again = None
        self._unanswered = False
        self.listening = False
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.REQ if self._lockstep else zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Without a connection nothing is queued: the sender decides what it sends again.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT[0])
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT[1])
        self._socket.setsockopt(zmq.IPV6, "[" in self.endpoint)
        self._socket.setsockopt(zmq.TCP_MAXRT, _DEAD_MS)
        self._socket.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_MS)
        if self._curve is not None:
            join(self._socket, self._curve.pair, self._curve.server_key)
        self._monitor = self._socket.get_monitor_socket(_EVENTS)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        try:
            self._socket.connect(self.endpoint)
        except zmq.ZMQError as error:
            self._close()
            raise LinkError(f"cannot connect to {self.endpoint}: {_told(error)}") from error

    def _close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)


class PublishedLink:
    """A PUB that waits for subscribers: it binds, and the daemon's ``ingest.subscribe`` names it."""

    answers = False
    complaint = ""

    def __init__(self, context: zmq.Context[Any], endpoint: str, *, curve: ClientCurve | None = None) -> None:
        """Bind.

        Args:
            context: Makes the socket.
            endpoint: The endpoint that the daemon connects to.
            curve: Keys for encryption; only the holder of ``server_key``, the daemon, is admitted.

        Raises:
            LinkError: The endpoint is in use or cannot be bound.
        """
        self.epoch = 1
        self._topics: set[bytes] = set()
        self._authenticator: ZapAuthenticator | None = None
        self._socket: zmq.Socket[bytes] = context.socket(zmq.XPUB)
        # A slow daemon slows down the sender and misses no frames.
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._socket.setsockopt(zmq.SNDHWM, 16)
        self._socket.setsockopt(zmq.IPV6, "[" in endpoint)
        self._socket.setsockopt(zmq.TCP_MAXRT, _DEAD_MS)
        try:
            if curve is not None:
                daemon = curve.server_key.decode("ascii")
                self._authenticator = ZapAuthenticator(context, {daemon: "daemon"}.get)
                self._authenticator.start()
                serve(self._socket, curve.pair)
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close(at_once=True)
            raise LinkError(f"cannot publish on {endpoint}: {_told(error)}") from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def listening(self) -> bool:
        """Whether anybody subscribed."""
        return bool(self._topics)

    def wait(self, timeout: float, *, to_send: bool) -> None:
        """See ``Link``."""
        flags = zmq.POLLIN | (zmq.POLLOUT if to_send and self.listening else 0)
        self._socket.poll(max(0, round(timeout * 1000)), flags)
        while self._socket.poll(0):
            change = self._socket.recv()
            (self._topics.add if change[:1] == b"\x01" else self._topics.discard)(change[1:])

    def send(self, parts: Sequence[Buffer]) -> bool:
        """See ``Link``."""
        if not self.listening:
            return False
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> bytes | None:
        """See ``Link``; always None, since published frames are not answered."""
        return None

    def close(self, *, at_once: bool) -> None:
        """See ``Link``."""
        self._socket.close(0 if at_once else _PUBLISH_LINGER)
        if self._authenticator is not None:
            self._authenticator.stop()


def _told(error: zmq.ZMQError) -> str:
    """The text of an error, with the form of an endpoint where that was wrong."""
    malformed = error.errno in (errno.EINVAL, errno.EPROTONOSUPPORT)
    return f"{error}; an endpoint is tcp://HOST:PORT or ipc://PATH" if malformed else str(error)
