"""The fleet's page where there is no fleet, or nothing has come yet: it says what to do."""

from __future__ import annotations

from typing import Any

from dance_ondevice.daemon.console.pages import NAVIGATION, Pages

FLEET: dict[str, Any] = {
    "version": 0,
    "published": None,
    "candidate": None,
    "offered": None,
    "offer": "nothing offered yet",
    "heard_at": None,
    "quiet": False,
    "set_back": False,
    "judged": (),
    "sent_bytes": 0,
    "received_bytes": 0,
    "trouble": None,
    "boards": None,
    "boards_at": None,
}


def shown(fleet: dict[str, Any] | None) -> str:
    template = Pages.load("x").environment.get_template("fleet.html")
    return template.render(
        path="/fleet", navigation=NAVIGATION, csrf="", asset="/static/x", fleet=fleet, now=2e9
    )


def test_without_a_fleet_it_says_how_to_begin_one() -> None:
    page = shown(None)
    assert "This board is in no fleet" in page
    for command in ("fleet init", "fleet serve", "fleet join", "kit = "):
        assert command in page


def test_before_anything_has_come_it_says_what_is_waited_for() -> None:
    page = shown(FLEET)
    assert "The server was not heard of yet" in page
    assert "the first round that is promoted" in page
    assert "None came yet" in page
    # A link that does not run tells of no trouble.
    quiet = shown({**FLEET, "heard_at": 1e9, "quiet": True})
    assert "fleet join" in quiet
    assert ">connected<" not in quiet
    troubled = shown({**FLEET, "trouble": "the server does not answer <b>"})
    assert "in trouble" in troubled
    assert "&lt;b&gt;" in troubled
