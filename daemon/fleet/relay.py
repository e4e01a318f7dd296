"""Carries files between a board's daemon and its fleet's server, piece by piece; it keeps nothing itself.

Whatever ends it at whatever moment, the next turn goes on where both ends say that they are.
"""

from __future__ import annotations

import base64
import logging
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from dance_ondevice.daemon.control.client import ClientError, CommandError
from dance_ondevice.daemon.fleet.link import NoServer, Refused
from dance_ondevice.daemon.rounds.fleet.box import Ballot
from dance_ondevice.daemon.wire import fleet_messages as messages

__all__ = ["Daemon", "Relay", "Server", "Turn"]

log = logging.getLogger(__name__)

#: Seconds until the next try, after a first failure and at most.
_FIRST_S, _MOST_S = 5.0, 600.0
#: Seconds until the next turn at least, as a server's kit allows, and at most, whatever the server says.
_SOONEST_S, _LATEST_S = 0.05, 86400.0


class Server(Protocol):
    """The server's end, see ``link.Link``."""

    def ask(self, ask: messages.Ask, data: bytes = b"") -> tuple[Any, bytes]: ...  # noqa: D102


#: Asks the daemon a command of the fleet's socket, see ``control.client.request``.
Daemon = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """How a turn ended, and the seconds until the next."""

    wait_s: float
    trouble: str = ""


class Relay:
    """Takes turns: news, the board's offer out, releases in, counts out."""

    def __init__(self, daemon: Daemon, server: Server, *, dice: random.Random | None = None) -> None:
        """Begin.

        Args:
            daemon: Asks the daemon.
            server: Asks the server.
            dice: Spreads the boards' turns, so that they do not all come at once.
        """
        self._daemon = daemon
        self._server = server
        self._dice = dice or random.Random()
        self._failures = 0
        self._session = secrets.token_hex(8)

    def turn(self) -> Turn:
        """Exchange what there is to exchange."""
        try:
            next_s = self._exchange()
        except CommandError as error:  # it runs, and can tell its user
            return self._failed(f"this board: {error}")
        except ClientError as error:
            return self._failed(f"the daemon: {error}", tell=False)
        except NoServer as error:
            return self._failed(str(error))
        except Refused as error:
            return self._failed(f"the server: {error}", at_least=error.retry_s)
        self._failures = 0
        self._tell("")
        return Turn(wait_s=_bounded(next_s * self._dice.uniform(0.9, 1.1)))

    def _exchange(self) -> float:
        state = self._daemon("fleet_state")
        offer = state["offer"] and msgspec.convert(state["offer"], messages.OfferRef)
        ask = messages.Sync(
            id=0,
            root=state["root"],
            lineage=tuple(state["lineage"]),
            offer=offer,
            refused=state["refused"],
            program=state["program"],
            session=state.get("session", self._session),  # a daemon of before has none
        )
        news = self._news(ask)
        if (
            offer is not None
            and news.offer is not None
            and news.offer.state == "unknown"
            and not news.offer.whole
        ):
            self._send(offer, news.offer.have)
            news = self._news(ask)
        told = self._daemon("fleet_news", news=msgspec.to_builtins(news))
        for want in told["wants"]:
            self._fetch(msgspec.convert(want["release"], messages.Release), int(want["have"]))
        if told["ballot"] is not None:
            self._vote(msgspec.convert(told["ballot"], Ballot))
        if told["who"]:
            boards, _ = self._server.ask(messages.Who(id=0))
            self._daemon("fleet_boards", boards=msgspec.to_builtins(boards))
        return news.next_s

    def _news(self, ask: messages.Sync) -> messages.Synced:
        news, _ = self._server.ask(ask)
        assert isinstance(news, messages.Synced)
        return news

    def _send(self, offer: messages.OfferRef, have: int) -> None:
        """Send the offer from where the server lacks it, until it has a receipt."""
        tries = 2 + 2 * (offer.size // messages.PIECE + 1)
        for _ in range(tries):
            found = self._daemon("fleet_offer", id=offer.id, offset=have)
            data = base64.b64decode(found["data"])
            stored, _ = self._server.ask(messages.Put(id=0, offer=offer, offset=have), data)
            if stored.offer.whole:
                log.info("offer %s: the server lacks what it is counted from", offer.id[:12])
                return
            if stored.offer.state != "unknown":
                log.info("offer %s: %s %s", offer.id[:12], stored.offer.state, stored.offer.reason)
                return
            have = stored.offer.have
        raise NoServer("the offer arrives damaged again and again")

    def _fetch(self, release: messages.Release, have: int) -> None:
        """Fetch a release from where the board lacks it."""
        tries = 2 + 2 * (release.size // messages.PIECE + 1)
        for _ in range(tries):
            if have >= release.size:
                log.info("a file of version %d has arrived", release.number)
                return
            _, data = self._server.ask(messages.Get(id=0, sha256=release.sha256, offset=have))
            found = self._daemon(
                "fleet_release",
                release=msgspec.to_builtins(release),
                offset=have,
                data=base64.b64encode(data).decode(),
            )
            have = int(found["have"])
        if have < release.size:
            raise NoServer(f"version {release.number} arrives damaged again and again")

    def _vote(self, ballot: Ballot) -> None:
        counted = False
        try:
            answer, _ = self._server.ask(
                messages.Score(
                    id=0,
                    sha256=ballot.sha256,
                    candidate=ballot.candidate,
                    against=ballot.against,
                    published=ballot.published,
                )
            )
        except Refused as error:
            if error.retry_s > 0.0:
                raise
            log.warning("the server takes no counts of %s: %s", ballot.sha256[:12], error)
        else:
            log.info("counts of %s: counted=%s %s", ballot.sha256[:12], answer.counted, answer.reason)
            counted = answer.counted
        self._daemon("fleet_voted", counted=counted)

    def _failed(self, trouble: str, *, at_least: float = 0.0, tell: bool = True) -> Turn:
        if tell:
            self._tell(trouble)
        wait = min(_MOST_S, _FIRST_S * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        wait = max(at_least, wait * self._dice.uniform(0.8, 1.2))
        return Turn(wait_s=_bounded(wait), trouble=trouble)

    def _tell(self, trouble: str) -> None:
        try:
            self._daemon("fleet_trouble", text=trouble)
        except ClientError as error:
            log.debug("the daemon was not told: %s", error)


def _bounded(wait_s: float) -> float:
    return min(max(wait_s, _SOONEST_S), _LATEST_S)
