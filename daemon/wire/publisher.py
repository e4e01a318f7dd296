"""The PUB socket of masks: bounded for subscribers that do not read, closed to revoked clients."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from dance_ondevice.daemon.security.curve import ServerCurve, serve
from dance_ondevice.daemon.wire.connections import Watch
from dance_ondevice.daemon.wire.receiver import AddressInUse

log = logging.getLogger(__name__)

#: Number of masks held for a subscriber that does not read; then it misses masks.
_MASKS_HELD = 16
#: Seconds between two checks for revoked subscribers, which are then disconnected.
_LOOK_EVERY = 1.0
#: Prefix of the topics that announce classes.
CLASSES = b"classes/"
#: The most subscriptions that are processed in one call.
_MOST_SUBSCRIPTIONS = 256
#: Longest subscription in bytes: libzmq keeps some fifty for each byte of a topic, and topics are short.
_SUBSCRIPTION_BYTES = 1024
#: Longest wait in milliseconds until the operating system releases the address.
_CLOSE_MS = 2000
#: After a minute of silence the kernel probes every 15 s whether a peer is still there.
_KEEPALIVE = ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 60), (zmq.TCP_KEEPALIVE_INTVL, 15))


class MaskPublisher:
    """Owns the socket of masks; for use by one thread."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        *,
        curve: ServerCurve | None = None,
        watch: Watch | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind.

        Args:
            context: Makes the socket.
            endpoint: tcp or ipc; a port may be ``*``.
            curve: Admits only known clients; None admits anyone.
            watch: Limits the subscribers' connections; None for no limit.
            monotonic: Monotonic clock, in seconds.

        Raises:
            AddressInUse: The endpoint cannot be bound.
        """
        self._context = context
        self._curve = curve
        self._watch = watch
        self._monotonic = monotonic
        self._look_at = 0.0
        self._revocations = 0
        self._socket = self._open(endpoint)
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, parts: Sequence[bytes]) -> None:
        """Publish a message; never waits for a subscriber."""
        self._socket.send_multipart(parts)

    def tend(self) -> None:
        """Once a second, check whether a client was revoked; if so, make every subscriber connect again.

        libzmq cannot disconnect a single peer. Subscribers with a known key are back within a moment and may
        miss a mask; the others are refused.

        Raises:
            AddressInUse: Another program took the address in the meantime.
        """
        if self._curve is None or self._monotonic() < self._look_at:
            return
        self._look_at = self._monotonic() + _LOOK_EVERY
        # The ingest thread has the keys read every second, the authenticator at every handshake.
        if self._curve.clients.revocations != self._revocations:
            self._release()
            self._socket = self._open(self.endpoint)
            log.info("mask subscribers connect again reason=%s", "a client was revoked")

    def newcomers(self) -> bool:
        """Whether, since the last call, a peer subscribed to topics below ``classes/``, or to all."""
        found = False
        for _ in range(_MOST_SUBSCRIPTIONS):
            try:
                change = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            # Any other message of a peer is not a subscription.
            topic = change[1:]
            found |= change[:1] == b"" and (CLASSES.startswith(topic) or topic.startswith(CLASSES))
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(linger=0)

    def _open(self, endpoint: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.XPUB)
        try:
            # XPUB reports every subscription, also repeated ones.
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.SNDHWM, _MASKS_HELD)
            socket.setsockopt(zmq.MAXMSGSIZE, _SUBSCRIPTION_BYTES)
            socket.setsockopt(zmq.IPV6, "[" in endpoint)
            for option, value in _KEEPALIVE:
                socket.setsockopt(option, value)
            if self._curve is not None:
                self._revocations = self._curve.clients.revocations
                serve(socket, self._curve.pair)
            if self._watch is not None:
                self._watch(socket)
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            socket.close()
            raise AddressInUse(
                f"cannot publish masks on {endpoint}: {error}; change inference.publish"
            ) from error
        return socket

    def _release(self) -> None:
        """Close the socket and wait until its address is free, since libzmq closes it on its own thread."""
        with self._socket.get_monitor_socket(zmq.EVENT_CLOSED) as closed:
            self._socket.unbind(self.endpoint)
            closed.poll(_CLOSE_MS)
            self._socket.disable_monitor()
        self._socket.close(linger=0)
