"""The handlers of the fleet's socket: files go out and come in by pieces, and nothing else can be asked.

``dance-ondevice fleet join`` asks; it runs as another user, which can read neither the state folder nor the
control socket.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dance_ondevice import __version__
from dance_ondevice.daemon.control.server import ControlError, Handler
from dance_ondevice.daemon.rounds.fleet.box import FleetPart, offer_words
from dance_ondevice.daemon.rounds.fleet.releases import BoxError
from dance_ondevice.daemon.versions.versions import Live
from dance_ondevice.daemon.wire.fleet_messages import PIECE, Boards, Release, Synced
from dance_ondevice.fleet.lineage import lineage

__all__ = ["SOCKET_VARIABLE", "handlers", "overview", "report", "shared_socket", "version_of"]

#: Names the socket between a daemon and a link of different users; both units set it.
SOCKET_VARIABLE = "DANCE_FLEET_SOCKET"

_MOST_TEXT = 500
#: Beyond what any file has; a larger number cannot even be sought.
_MOST_OFFSET = 1 << 53


def handlers(part: FleetPart, live: Callable[[], Live | None]) -> Mapping[str, Handler]:
    """A handler for each command; see ``control.server.ControlServer``.

    Args:
        part: The board's part in its fleet.
        live: Returns the live version.
    """
    box = part.box
    # Of the daemon, not of the link: `fleet join --once` beside the link is no second board.
    session = secrets.token_hex(8)

    def state(_: Mapping[str, object]) -> dict[str, Any]:
        facts, now = box.snapshot().facts, live()
        training = (now.card.get("training") or {}) if now else {}
        refused = [each.sha256 for each in facts.judged if each.outcome == "refused"]
        return {
            "root": part.root.sha256,
            "lineage": lineage(training),
            "offer": facts.offer,
            "refused": refused[-1] if refused else "",
            "program": __version__,
            "session": session,
        }

    def offer(query: Mapping[str, object]) -> dict[str, Any]:
        data = _taking(lambda: box.piece_of_offer(str(query["id"]), _number(query["offset"]), PIECE))
        return {"data": base64.b64encode(data).decode()}

    def news(query: Mapping[str, object]) -> dict[str, Any]:
        wants = _taking(lambda: box.news(msgspec.convert(query["news"], Synced)))
        return {
            "wants": [{"release": want.release, "have": want.have} for want in wants],
            "ballot": box.snapshot().facts.ballot,
            "who": box.asks_who,
        }

    def boards(query: Mapping[str, object]) -> dict[str, Any]:
        _taking(lambda: box.boards(msgspec.convert(query["boards"], Boards)))
        return {}

    def release(query: Mapping[str, object]) -> dict[str, Any]:
        def take() -> int:
            wanted = msgspec.convert(query["release"], Release)
            data = base64.b64decode(str(query["data"]), validate=True)
            return box.piece_of_release(wanted, _number(query["offset"]), data)

        return {"have": _taking(take)}

    def voted(query: Mapping[str, object]) -> dict[str, Any]:
        _taking(lambda: box.scored(None, counted=query.get("counted", True) is True))
        return {}

    def trouble(query: Mapping[str, object]) -> dict[str, Any]:
        box.trouble("server", str(query["text"])[:_MOST_TEXT])
        return {}

    return {
        "fleet_state": state,
        "fleet_offer": offer,
        "fleet_news": news,
        "fleet_boards": boards,
        "fleet_release": release,
        "fleet_voted": voted,
        "fleet_trouble": trouble,
    }


def shared_socket(environ: Mapping[str, str]) -> Path | None:
    """The socket that ``DANCE_FLEET_SOCKET`` names; None where it lies beside the control socket."""
    given = environ.get(SOCKET_VARIABLE, "")
    return Path(given).absolute() if given else None


def report(part: FleetPart, live: Live | None) -> dict[str, Any]:
    """What ``status`` tells of the fleet."""
    found = part.box.snapshot()
    facts, news = found.facts, found.facts.news
    return {
        "root": part.root.sha256,
        "version": version_of(part, live),
        "published": news.published.number if news else None,
        "candidate": news.candidate.number if news and news.candidate else None,
        "offered": facts.offered or None,
        "offer": offer_words(news.offer if news else None),
        "heard_at": part.box.heard_at or None,
        "quiet": part.box.quiet,
        "set_back": bool(news and news.set_back),
        "judged": facts.judged,
        "sent_bytes": found.sent,
        "received_bytes": found.received,
        "trouble": found.trouble or None,
    }


def overview(part: FleetPart | None, live: Live | None) -> dict[str, Any] | None:
    """What the console's page shows: the board's part, and who else is in; None where it is in no fleet."""
    if part is None:
        return None
    part.box.looked_at()
    found = part.box.snapshot().boards
    boards, at = found if found else (None, None)
    return {**report(part, live), "boards": boards, "boards_at": at}


def version_of(part: FleetPart, live: Live | None) -> int:
    """Number of the fleet version that the live model goes back to; 0 for the root."""
    taken = lineage((live.card.get("training") or {}) if live else {})
    numbers = {each.sha256: each.number for each in part.box.snapshot().facts.judged}
    return next((numbers[sha256] for sha256 in taken if sha256 in numbers), 0)


def _taking(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except BoxError as error:
        raise ControlError(str(error)) from error
    except OSError as error:
        raise ControlError(f"the board's disk: {error.strerror or error}") from error
    except (msgspec.ValidationError, binascii.Error) as error:
        raise ControlError(f"not what the fleet's socket takes: {error}") from error


def _number(value: object) -> int:
    if isinstance(value, int) and 0 <= value <= _MOST_OFFSET:
        return value
    raise ControlError(f"{value!r} is no offset")
