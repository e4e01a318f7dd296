"""A board's connection to its fleet's server: outward only, encrypted, one request at a time."""

from __future__ import annotations

import itertools
import re
import socket as sockets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from dance_ondevice.daemon.security.curve import ClientCurve, join
from dance_ondevice.daemon.wire import fleet_messages as messages

__all__ = ["Link", "NoServer", "Refused"]

#: Seconds for a connection and an answer, and how many times as many where the connection stands: a piece of
#: a file takes minutes by a slow radio, and one that is given up begins anew each time.
ANSWER_SECONDS, _SLOW_TIMES = 60.0, 10
#: Milliseconds after which a connection is over whose other end acknowledges nothing that was sent; seconds
#: until it is asked whether it is there, between two such questions, and how many.
_DEAD_MS, _ALIVE = 20_000, (30, 10, 3)
#: Seconds of silence after which a request gets a new connection: a router on the way forgets idle ones
#: without a word, and the request would be waited for in vain.
_IDLE_S = 30.0
_STEP_MS = 500
_NAMED = re.compile(r"tcp://([^\[\]:]+):(\d+)")
#: Status of a handshake that the server has refused for good; libzmq then connects no more.
_UNKNOWN_KEY = 400
_CONNECTED, _SHOOK_HANDS = zmq.EVENT_CONNECTED, zmq.EVENT_HANDSHAKE_SUCCEEDED
_NOT_ADMITTED, _NO_HANDSHAKE = zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_BROKE = zmq.EVENT_DISCONNECTED
_EVENTS = (
    _CONNECTED | _SHOOK_HANDS | _NOT_ADMITTED | _NO_HANDSHAKE | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | _BROKE
)


class NoServer(Exception):  # noqa: N818 - read as a state
    """The server does not answer; the message says what was tried."""


class Refused(Exception):  # noqa: N818 - read as a state
    """The server refused a request; ``retry_s`` says when to come again, 0 for not with the same."""

    def __init__(self, reason: str, retry_s: float) -> None:
        super().__init__(reason)
        self.retry_s = retry_s


class Link:
    """The socket, opened at the first request and anew after each silence."""

    def __init__(
        self,
        endpoint: str,
        curve: ClientCurve,
        *,
        stopping: Callable[[], bool] = lambda: False,
        answer_seconds: float = ANSWER_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        resolve: Callable[..., list[Any]] = sockets.getaddrinfo,
    ) -> None:
        """Open nothing yet.

        Args:
            endpoint: The server, ``tcp://...``.
            curve: The board's keys and the server's public one.
            stopping: Looked at twice a second while an answer is awaited.
            answer_seconds: Seconds for a connection and an answer; an answer may take ten times as long.
            monotonic: Clock in seconds.
            resolve: Finds the addresses of a name, as ``socket.getaddrinfo`` does.
        """
        self._endpoint = endpoint
        self._resolve = resolve
        self._failures = 0
        #: How far the connection has come.
        self._reached = 0
        self._curve = curve
        self._stopping = stopping
        self._seconds = answer_seconds
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._monotonic = monotonic
        self._used_at = 0.0
        self._ids = itertools.count(1)

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hang_up()
        self._context.term()

    def ask(self, ask: messages.Ask, data: bytes = b"") -> tuple[Any, bytes]:
        """Send a request, whose ``id`` is set here; returns the answer and the bytes that follow it.

        Raises:
            NoServer: No answer came in time, or the endpoint is none.
            Refused: The server refused it.
        """
        ask = msgspec.structs.replace(ask, id=next(self._ids))
        if self._monotonic() - self._used_at > _IDLE_S:
            self._hang_up()
        socket = self._open()
        try:
            socket.send_multipart([messages.encode(ask), data], zmq.NOBLOCK)
            answer, piece = self._answer(socket, ask.id)
        except zmq.Again as error:
            self._hang_up()
            raise NoServer(f"{self._endpoint} takes nothing") from error
        except (NoServer, messages.MessageError) as error:
            self._hang_up()
            self._failures += 1
            raise NoServer(str(error)) from error
        self._failures = 0
        self._used_at = self._monotonic()
        if isinstance(answer, messages.Refusal):
            raise Refused(answer.reason, answer.retry_s)
        return answer, piece

    def _answer(self, socket: zmq.Socket[bytes], number: int) -> tuple[messages.Answer, bytes]:
        began = self._monotonic()
        while not self._stopping():
            stands = self._reached == _SHOOK_HANDS
            if self._monotonic() - began >= self._seconds * (_SLOW_TIMES if stands else 1):
                break
            if not socket.poll(_STEP_MS):
                self._watch()
                continue
            parts = socket.recv_multipart()
            answer = messages.decode_answer(parts[0])
            if answer.id in (number, 0):  # else of a request that was given up
                return answer, parts[1] if len(parts) > 1 else b""
        raise NoServer(self._why())

    def _watch(self) -> None:
        """Take note of what became of the connection.

        Raises:
            NoServer: The connection broke, or the server does not admit this board.
        """
        while self._monitor is not None and self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)
            if event["event"] == _BROKE:
                if self._reached == _SHOOK_HANDS:
                    raise NoServer(f"the connection to {self._endpoint} broke")
                continue  # of a handshake that failed
            if event["event"] != _CONNECTED or not self._reached:  # else a next try, of the same end
                self._reached = event["event"]
            if (event["event"], event["value"]) == (_NOT_ADMITTED, _UNKNOWN_KEY):
                raise NoServer(
                    f"the server at {self._endpoint} does not know this board's key (any more): the kit was "
                    "revoked; `fleet init` makes another one"
                )

    def _why(self) -> str:
        """Why no answer came, as far as this end can tell."""
        reached = {
            0: "cannot be reached: the server is off, has moved, or the way to it is barred",
            _CONNECTED: "does not answer: it is no fleet's server, or the way to it is barred",
            _SHOOK_HANDS: "does not answer: the server is busy, or the way to it broke",
            _NOT_ADMITTED: "does not answer: the server cannot read its boards' keys",
        }
        other = (
            "is not the server of this kit: another fleet's listens there, or it got new keys; a kit is used "
            "with the server whose `fleet init` made it"
        )
        return f"{self._endpoint} {reached.get(self._reached, other)}"

    def _address(self) -> str:
        """The endpoint with an address in the place of a name: of several, the next one after each failure.

        libzmq itself would look for IPv4 alone, or for IPv6 alone.

        Raises:
            NoServer: The name is not known.
        """
        named = _NAMED.fullmatch(self._endpoint)
        if named is None:
            return self._endpoint
        try:
            found = self._resolve(named[1], int(named[2]), type=sockets.SOCK_STREAM)
        except (OSError, UnicodeError, OverflowError) as error:
            self._failures += 1
            raise NoServer(
                f"{self._endpoint} cannot be reached: the name {named[1]} is not known here ({error})"
            ) from error
        family, *_, address = found[self._failures % len(found)]
        host = f"[{address[0]}]" if family == sockets.AF_INET6 else address[0]
        return f"tcp://{host}:{named[2]}"

    def _open(self) -> zmq.Socket[bytes]:
        if self._socket is None:
            address = self._address()
            socket = self._context.socket(zmq.DEALER)
            socket.linger = 0
            socket.set(zmq.SNDHWM, 4)
            socket.set(zmq.RCVHWM, 4)
            socket.set(zmq.MAXMSGSIZE, messages.MOST_PART)
            socket.set(zmq.RECONNECT_IVL, 500)
            socket.set(zmq.RECONNECT_IVL_MAX, 30_000)
            socket.set(zmq.TCP_MAXRT, _DEAD_MS)
            socket.set(zmq.TCP_KEEPALIVE, 1)
            socket.set(zmq.TCP_KEEPALIVE_IDLE, _ALIVE[0])
            socket.set(zmq.TCP_KEEPALIVE_INTVL, _ALIVE[1])
            socket.set(zmq.TCP_KEEPALIVE_CNT, _ALIVE[2])
            socket.set(zmq.IPV6, "[" in address)
            join(socket, self._curve.pair, self._curve.server_key)
            self._monitor = socket.get_monitor_socket(_EVENTS)
            self._reached = 0
            self._socket = socket
            try:
                socket.connect(address)
            except zmq.ZMQError as error:
                self._hang_up()
                raise NoServer(
                    f"{self._endpoint} is no address of a server ({error.strerror}): `endpoint` in the kit's "
                    "kit.json is tcp://HOST:PORT"
                ) from error
        return self._socket

    def _hang_up(self) -> None:
        if self._socket is not None and self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close()
        self._socket = self._monitor = None
