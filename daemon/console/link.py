"""The console's way to the daemon: one JSON request and one JSON reply each over its socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

__all__ = ["DaemonLink", "NoDaemon", "Refused"]

#: Requests at once: the daemon answers them one by one, and what waits here costs it nothing.
_AT_ONCE = 8
#: The largest answer: a page of samples or a picture is far below.
_MOST_BYTES = 64 << 20


class NoDaemon(Exception):  # noqa: N818 - read as a state
    """No daemon answers; the message says what to do."""


class Refused(Exception):  # noqa: N818 - read as a state
    """The daemon answered that it cannot do what was asked; the message says why."""


class _Reply(msgspec.Struct):
    ok: bool
    result: Any = None
    error: str = ""


class DaemonLink:
    """Asks the daemon; for one event loop, which closes it."""

    def __init__(self, endpoint: Callable[[], str | None]) -> None:
        """``endpoint`` returns where the daemon listens for the console; None while none runs."""
        self._endpoint = endpoint
        self._context = zmq.asyncio.Context()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def close(self) -> None:
        """Close the sockets."""
        self._context.destroy(linger=0)

    async def ask(self, cmd: str, *, timeout: float = 15.0, **args: object) -> Any:
        """The result of one command.

        Raises:
            NoDaemon: Nobody listens, or no answer came within ``timeout`` seconds.
            Refused: The daemon answered with an error.
        """
        async with self._turns:
            data = await self._exchange(msgspec.json.encode({**args, "cmd": cmd}), timeout)
        try:
            reply = msgspec.json.decode(data, type=_Reply)
        except msgspec.MsgspecError as error:
            raise Refused(f"the daemon's answer cannot be read: {error}") from error
        if not reply.ok:
            raise Refused(reply.error)
        return reply.result

    async def _exchange(self, request: bytes, timeout: float) -> bytes:
        endpoint = self._served()
        channel = self._context.socket(zmq.REQ)
        try:
            channel.linger = 0
            channel.set(zmq.MAXMSGSIZE, _MOST_BYTES)
            channel.connect(endpoint)
            await channel.send(request)
            if not await channel.poll(round(timeout * 1000)):
                raise NoDaemon(f"The daemon did not answer within {timeout:g} s. Its log says why.")
            answer: bytes = await channel.recv()
            return answer
        finally:
            channel.close()

    def _served(self) -> str:
        """The endpoint, at which a process listens: ZMQ would wait for one, a plain connect fails at once."""
        endpoint = self._endpoint()
        if endpoint is None:
            raise NoDaemon("No daemon runs.")
        path = Path(endpoint.removeprefix("ipc://"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
            try:
                probe.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise NoDaemon("No daemon runs.") from error
            except OSError as error:
                raise NoDaemon(f"{path} cannot be opened: {error.strerror or error}.") from error
        return endpoint
