"""The ZAP authenticator: the thread that tells libzmq whether a client's key is known.

libzmq sends a request for each handshake to ``inproc://zeromq.zap.01`` of the same context, and admits no
client without an answer (https://rfc.zeromq.org/spec/27/). If this thread died, no new client could connect,
so the supervisor then stops the daemon.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils import z85

from dance_ondevice.daemon.security.curve import DOMAIN
from dance_ondevice.daemon.security.keys import KeysError
from dance_ondevice.daemon.system.service import Service
from dance_ondevice.daemon.system.waker import Waker

log = logging.getLogger(__name__)

_ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_KEY_BYTES = 32
#: Seconds between two log lines about refused connections; the counter has all of them.
_LOG_EVERY = 10.0
_ACCEPTED, _TRY_AGAIN, _REFUSED = b"200", b"300", b"400"


class ZapAuthenticator(Service):
    """Admits the CURVE clients whose public key is known, and no others.

    The User-Id of their messages is their public key in Z85.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        name_of: Callable[[str], str | None],
        *,
        on_refused: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the thread; ``start`` must be called before the context's sockets are bound.

        Args:
            context: The context whose sockets are protected.
            name_of: Returns the name of a known public key (Z85), None for an unknown one; called at each
                handshake. With an OSError or KeysError the client is refused for now and will try again.
            on_refused: Called for each connection that is refused.
            monotonic: Monotonic clock, in seconds.
        """
        super().__init__("zap")
        self._context = context
        self._name_of = name_of
        self._on_refused = on_refused
        self._monotonic = monotonic
        self._waker = Waker()
        self._socket: zmq.Socket[bytes] | None = None
        self._logged_at = -_LOG_EVERY

    def setup(self) -> None:
        """Bind the endpoint that libzmq sends requests to.

        Raises:
            zmq.ZMQError: The context has an authenticator already.
        """
        self._socket = self._context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ENDPOINT)

    def run(self) -> None:
        """Answer until stopped."""
        assert self._socket is not None
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._waker.fileno(), zmq.POLLIN)
        while not self.stopping.is_set():
            self.beat()
            ready = dict(poller.poll(1000))
            if self._waker.fileno() in ready:
                self._waker.clear()  # or every poll from now on would return at once
            if self._socket in ready:
                self._socket.send_multipart(self._answer(self._socket.recv_multipart()))

    def wake(self) -> None:
        """End the wait for the next request."""
        self._waker.wake()

    def teardown(self) -> None:
        """Close the socket: libzmq then refuses every client."""
        self._waker.close()
        if self._socket is not None:
            self._socket.close()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        number = request[1] if len(request) > 1 else b""
        address = request[3].decode("ascii", "replace") if len(request) > 3 else "?"
        status, user = _REFUSED, ""
        if request[:1] != [_VERSION] or len(request) != 7 or request[5] != b"CURVE":
            reason = "not a CURVE request"
        elif request[2] != DOMAIN:
            reason = "another domain"
        elif len(request[6]) != _KEY_BYTES:
            reason = "not a key"
        else:
            key = z85.encode(request[6]).decode("ascii")
            try:
                name = self._name_of(key)
            except (OSError, KeysError) as error:
                status, reason = _TRY_AGAIN, f"keys unreadable: {error}"
            else:
                reason = f"unknown key {key}"
                if name is not None:
                    log.debug("client connects name=%s address=%s", name, address)
                    status, reason, user = _ACCEPTED, "", key
        if status != _ACCEPTED:
            self._refused(address, reason)
        return [
            _VERSION,
            number,
            status,
            b"" if status == _ACCEPTED else b"refused",
            user.encode("ascii"),
            b"",
        ]

    def _refused(self, address: str, reason: str) -> None:
        self._on_refused()
        now = self._monotonic()
        if now - self._logged_at >= _LOG_EVERY:
            self._logged_at = now
            log.warning("connection refused address=%s reason=%r", address, reason)
