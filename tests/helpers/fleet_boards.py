"""Boards of a fleet without processes: their files, commands and link, against a server's desk."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from small_fleet import FIRST, ROOT, Clock, Server, name_of, offer

from dance_ondevice.daemon.control import fleet as control
from dance_ondevice.daemon.control.client import CommandError
from dance_ondevice.daemon.control.server import ControlError
from dance_ondevice.daemon.fleet.link import NoServer, Refused
from dance_ondevice.daemon.fleet.relay import Relay, Turn
from dance_ondevice.daemon.rounds.fleet.box import Box, FleetPart
from dance_ondevice.daemon.versions.versions import Live, Pointer
from dance_ondevice.daemon.wire import fleet_messages as messages


class KilledError(Exception):
    """A process was killed in the middle of something."""


class Board:
    """One board, whose processes are killed now and then where ``dice`` say so."""

    def __init__(self, name: str, folder: Path, server: Server, clock: Clock) -> None:
        self.name, self.folder, self.server, self.clock = name, folder, server, clock
        self.lineage: list[str] = []
        self.free_bytes = 1 << 40
        self.online = True
        #: The root's release, made of the board's first model.
        self.first_model: bytes | None = FIRST
        self.kills: Callable[[], bool] = lambda: False
        self.box: Box
        self.restart()

    def restart(self) -> None:
        """Open the board's files anew, as a daemon's start does."""
        self.box = Box(
            self.folder,
            ROOT,
            now=self.clock,
            monotonic=lambda: self.clock.at - self.clock.stepped,
            free_bytes=lambda: self.free_bytes,
            own_release=lambda: self.first_model,
        )
        self.part = FleetPart(box=self.box, root=ROOT)
        self._handlers = control.handlers(self.part, self._live)
        self.relay = Relay(self._daemon, self, dice=random.Random(0))

    def take(self, sha256: str) -> None:
        """The board's gate has taken a release."""
        self.lineage = [sha256, *self.lineage][:16]

    def offers(self, version: str, shift: float) -> bytes:
        """What the rounds of the board offer, counted from what it took last; returns the file."""
        base = self.box.content(self.lineage[0] if self.lineage else "")
        data = offer(shift, self.lineage, base=base)
        self.box.offer(version, data, against=name_of(base) if base else "")
        return data

    def turn(self) -> Turn:
        return self.relay.turn()

    def ask(self, ask: messages.Ask, data: bytes = b"") -> tuple[Any, bytes]:
        """The server's end, over bytes as over a socket."""
        if not self.online:
            raise NoServer("the server does not answer")
        ask = messages.decode_ask(messages.encode(msgspec.structs.replace(ask, id=7)))
        self._perhaps_killed()
        answer, piece = self.server.desk.answer(self.name, ask, data)
        self._perhaps_killed()
        answer = messages.decode_answer(messages.encode(answer))
        if isinstance(answer, messages.Refusal):
            raise Refused(answer.reason, answer.retry_s)
        return answer, piece

    def _daemon(self, command: str, **arguments: object) -> Any:
        self._perhaps_killed()
        query = msgspec.json.decode(msgspec.json.encode(arguments))
        try:
            found = self._handlers[command](query)
        except ControlError as error:
            raise CommandError(str(error)) from error
        self._perhaps_killed()
        return msgspec.json.decode(msgspec.json.encode(found))

    def _live(self) -> Live:
        training = {"steps": 4, "fleet": {"lineage": self.lineage, "samples": 3}}
        return Live(Pointer("v0002", "v0001", "v0001"), {"training": training})

    def _perhaps_killed(self) -> None:
        if self.kills():
            raise KilledError
