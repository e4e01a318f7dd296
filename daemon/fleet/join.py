"""The process of ``dance-ondevice fleet join``: takes a turn, waits, and takes the next."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from dance_ondevice.daemon.control.client import request
from dance_ondevice.daemon.fleet.link import Link
from dance_ondevice.daemon.fleet.relay import Relay
from dance_ondevice.daemon.security.kit import BoardKit

__all__ = ["run"]

log = logging.getLogger(__name__)

#: Seconds for an answer of the daemon, which may be busy.
_DAEMON_SECONDS = 30.0


def run(kit: BoardKit, socket: Callable[[], str], stop: threading.Event, *, once: bool = False) -> str:
    """Relay until stopped; returns what troubled the last turn, empty where nothing did.

    Args:
        kit: The board's kit.
        socket: Returns the daemon's fleet socket, looked up each time, since the daemon may restart.
        stop: Ends it when set.
        once: Whether one turn is enough.
    """

    def daemon(command: str, **arguments: object) -> Any:
        return request(socket(), command, _DAEMON_SECONDS, **arguments)

    settings, said = kit.settings, ""
    with Link(settings.endpoint, kit.curve, stopping=stop.is_set) as link:
        relay = Relay(daemon, link)
        log.info("joins board=%s server=%s", settings.board, settings.endpoint)
        while True:
            turn = relay.turn()
            if turn.trouble and turn.trouble != said:
                log.warning("%s", turn.trouble)
            elif said and not turn.trouble:
                log.info("exchanges again")
            said = turn.trouble
            if once or stop.wait(turn.wait_s):
                return said
