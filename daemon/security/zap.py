"""The ZAP authenticator: the thread that libzmq asks whether a client's key is known.

libzmq sends each handshake's request to ``inproc://zeromq.zap.01`` of the same context and lets nobody in
without an answer (https://rfc.zeromq.org/spec/27/). When this thread dies nobody new can connect, and the
supervisor stops the daemon rather than go on half deaf.
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
#: Seconds between two log lines about refused connections; the counter has them all.
_LOG_EVERY = 10.0
_ACCEPTED, _TRY_AGAIN, _REFUSED = b"200", b"300", b"400"


class ZapAuthenticator(Service):
    """Admits the CURVE clients whose public key is known, and nobody else.

    The User-Id of what they send is their public key in Z85.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        name_of: Callable[[str], str | None],
        *,
        on_refused: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened before ``start``, which must come before the context's sockets are bound.

        Args:
            context: of the sockets to guard.
            name_of: the name of a known public key (Z85), None for any other; asked at each handshake. An
                OSError or KeysError of it turns the client away for now: it will try again.
            on_refused: called for each connection that is turned away.
            monotonic: seconds.
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
        """Bind where libzmq asks.

        Raises:
            zmq.ZMQError: the context has an authenticator already.
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
            if self._socket in dict(poller.poll(1000)):
                self._socket.send_multipart(self._answer(self._socket.recv_multipart()))

    def wake(self) -> None:
        """End the wait for the next request."""
        self._waker.wake()

    def teardown(self) -> None:
        """Close the socket: libzmq then refuses everybody."""
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
