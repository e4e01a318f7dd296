"""A board's connection to its fleet's server: outward only, encrypted, one request at a time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec
import zmq

from dance_ondevice.daemon.security.curve import ClientCurve, join
from dance_ondevice.daemon.wire import fleet_messages as messages

__all__ = ["Link", "NoServer", "Refused"]

#: Seconds for one request and its answer, of at most one piece of a file: a slow radio needs many.
ANSWER_SECONDS = 60.0
#: Seconds of silence after which a request gets a new connection: a router on the way forgets idle ones
#: without a word, and the request would be waited for in vain.
_IDLE_S = 30.0
_STEP_MS = 500


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
    ) -> None:
        """Open nothing yet.

        Args:
            endpoint: The server, ``tcp://...``.
            curve: The board's keys and the server's public one.
            stopping: Looked at twice a second while an answer is awaited.
            answer_seconds: Seconds for an answer.
            monotonic: Clock in seconds.
        """
        self._endpoint = endpoint
        self._curve = curve
        self._stopping = stopping
        self._seconds = answer_seconds
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
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
            raise NoServer(str(error)) from error
        self._used_at = self._monotonic()
        if isinstance(answer, messages.Refusal):
            raise Refused(answer.reason, answer.retry_s)
        return answer, piece

    def _answer(self, socket: zmq.Socket[bytes], number: int) -> tuple[messages.Answer, bytes]:
        end = self._monotonic() + self._seconds
        while self._monotonic() < end and not self._stopping():
            if not socket.poll(_STEP_MS):
                continue
            parts = socket.recv_multipart()
            answer = messages.decode_answer(parts[0])
            if answer.id in (number, 0):  # else of a request that was given up
                return answer, parts[1] if len(parts) > 1 else b""
        raise NoServer(
            f"{self._endpoint} does not answer: the server is off, cannot be reached, or does not know this "
            "board's key (any more)"
        )

    def _open(self) -> zmq.Socket[bytes]:
        if self._socket is None:
            socket = self._context.socket(zmq.DEALER)
            socket.linger = 0
            socket.set(zmq.SNDHWM, 4)
            socket.set(zmq.RCVHWM, 4)
            socket.set(zmq.MAXMSGSIZE, messages.MOST_PART)
            socket.set(zmq.RECONNECT_IVL, 500)
            socket.set(zmq.RECONNECT_IVL_MAX, 30_000)
            socket.set(zmq.IPV6, "[" in self._endpoint)
            join(socket, self._curve.pair, self._curve.server_key)
            try:
                socket.connect(self._endpoint)
            except zmq.ZMQError as error:
                socket.close()
                raise NoServer(
                    f"{self._endpoint} is no address of a server ({error.strerror}): `endpoint` in the kit's "
                    "kit.json is tcp://HOST:PORT"
                ) from error
            self._socket = socket
        return self._socket

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
