"""Requests to a daemon's control socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import zmq

from dance_ondevice.daemon.control.server import is_served
from dance_ondevice.daemon.system.owner import AS_SERVICE
from dance_ondevice.documents import DocumentError, decode


class ClientError(Exception):
    """A command got no result; the message says why and what to do."""


class NotRunning(ClientError):  # noqa: N818 - read as a state
    """No daemon answers at the control socket."""


class CommandError(ClientError):
    """The daemon answered that it cannot carry out the command."""


class _Reply(msgspec.Struct):
    ok: bool
    result: Any = None
    error: str = ""


def request(endpoint: str, cmd: str, timeout: float = 10.0, **args: object) -> Any:
    """Send one command and wait for its result.

    Args:
        endpoint: The control socket, ``ipc://...``.
        cmd: The command's name.
        timeout: Seconds to wait for the answer.
        args: The command's arguments, JSON values.

    Raises:
        NotRunning: No process listens at the endpoint, or no answer came in time.
        CommandError: The daemon answered with an error.
        ClientError: This user may not open the socket, or the answer cannot be read.
    """
    _check_served(endpoint)
    with zmq.Context() as context, context.socket(zmq.REQ) as channel:
        channel.linger = 0
        channel.connect(endpoint)
        channel.send(msgspec.json.encode({**args, "cmd": cmd}))
        if not channel.poll(round(timeout * 1000)):
            raise NotRunning(
                f"no daemon answers {cmd!r} at {endpoint} within {timeout:g} s; see the daemon's log"
            )
        data = channel.recv()
    try:
        reply = decode(data, _Reply)
    except DocumentError as error:
        raise ClientError(f"the answer from {endpoint} cannot be read: {error}") from error
    if not reply.ok:
        raise CommandError(reply.error)
    return reply.result


def _check_served(endpoint: str) -> None:
    """Check that a process listens at the endpoint: ZMQ would wait for one, a plain connect fails at once."""
    path = Path(endpoint.removeprefix("ipc://"))
    try:
        served = is_served(path)
    except PermissionError as error:
        raise ClientError(f"this user may not open {path}; {AS_SERVICE}") from error
    except OSError as error:
        raise ClientError(f"{endpoint} is not a control socket: {error.strerror or error}") from error
    if not served:
        raise NotRunning(f"no daemon answers at {endpoint}; start it with `dance-ondevice run`")
