"""Pages without a browser: the application is called as a server would, beside a made-up daemon."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from starlette.applications import Starlette

from dance_ondevice.daemon.console.access import Sessions
from dance_ondevice.daemon.console.app import build
from dance_ondevice.daemon.console.guide import steps
from dance_ondevice.daemon.console.link import DaemonLink
from dance_ondevice.daemon.console.pages import NAVIGATION, Pages, clock

TOKEN = "t" * 32


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[str]:
    """A daemon of another release, whose answers lack what pages want; returns its endpoint."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    channel = context.socket(zmq.REP)
    channel.linger = 0
    endpoint = f"ipc://{tmp_path}/console.sock"
    channel.bind(endpoint)
    over = threading.Event()

    def answer() -> None:
        while not over.is_set():
            if channel.poll(20):
                channel.recv()
                channel.send(json.dumps({"ok": True, "result": {"status": {}, "cameras": []}}).encode())
        channel.close()

    thread = threading.Thread(target=answer)
    thread.start()
    yield endpoint
    over.set()
    thread.join()
    context.term()


async def get(app: Starlette, path: str, method: str = "GET", **more: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and the first piece of the body of a page, with a login, and with more headers."""
    sessions = Sessions(TOKEN)
    cookie = sessions.begin()
    headers = [(b"accept", b"text/html"), (b"cookie", f"{sessions.cookie}={cookie}".encode())]
    if method == "POST":
        headers.append((b"x-csrf-token", sessions.csrf(cookie).encode()))
    # The last of a name counts.
    headers = list({**dict(headers), **{name.encode(): more[name].encode() for name in more}}.items())
    path, _, query = path.partition("?")
    scope = {
        **{"type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path},
        **{"raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "headers": headers},
        **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)},
    }
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    bodies = [{"type": "http.request", "body": b"", "more_body": False}] if method == "POST" else []

    async def receive() -> dict[str, Any]:
        if bodies:
            return bodies.pop()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    # ASGI calls it a coroutine; for a type checker any awaitable is another thing.
    serving = asyncio.create_task(app(scope, receive, sent.put))  # type: ignore[arg-type]
    start, body = await asyncio.wait_for(sent.get(), 30), await asyncio.wait_for(sent.get(), 30)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], found, body["body"].decode()


def test_an_answer_of_another_release_is_told_and_events_pass_proxies(
    daemon: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def token(_: DaemonLink) -> str:
        return TOKEN

    async def visit() -> None:
        app = build(lambda: daemon, token)
        for path in ("/", "/samples", "/energy", "/health"):
            status, _, page = await get(app, path)
            assert (status, "restart dance-ondevice-console" in page) == (500, True), path
        hub = app.state.site.hub
        events = hub.events()
        told = [await asyncio.wait_for(anext(events), 30) for _ in range(2)]
        assert b"event: gone" in told[1]
        assert b"of another release" in told[1]
        status, headers, _ = await get(app, "/live/events")
        assert (status, headers["x-accel-buffering"]) == (200, "no")
        await events.aclose()
        await hub.close()
        app.state.site.link.close()

    asyncio.run(visit())
    assert "page cannot be shown path=/energy" in caplog.text


def test_what_a_button_asked_for_is_not_asked_again_when_the_daemon_comes_back() -> None:
    async def token(_: DaemonLink) -> str:
        return TOKEN

    async def visit() -> None:
        app = build(lambda: None, token, secure=True)
        for method, path, back in (
            ("GET", "/samples?camera=front", "/samples?camera=front"),
            ("POST", "/learning/rollback", "/learning"),
            ("POST", "/health/backup", "/health"),
        ):
            status, headers, page = await get(app, path, method)
            assert (status, f'data-back="{back}"' in page) == (503, True), page
            # It would hold for every port of the host, as Grafana's, and nobody could open those any more.
            assert "strict-transport-security" not in headers
        # A page of an earlier login is told in words, and a script gets what it needs to go on.
        old = {"x-csrf-token": "0" * 48}
        status, _, page = await get(app, "/learning/pause", "POST", **old)
        assert (status, "Load it again" in page) == (403, True)
        status, _, answer = await get(app, "/learning/pause", "POST", accept="*/*", **old)
        fresh = json.loads(answer)["csrf"]
        assert (status, len(fresh)) == (403, 48)
        foreign = {"sec-fetch-site": "cross-site"}
        status, _, answer = await get(app, "/learning/pause", "POST", accept="*/*", **foreign)
        assert (status, "csrf" in json.loads(answer)) == (403, False)
        # Nor is a body that is no form an error of the program.
        status, _, page = await get(app, "/samples/purge", "POST")
        assert (status, "Nothing is chosen" in page) == (400, True)
        # Who is logged out is led to the login, by a button as well.
        status, headers, _ = await get(app, "/learning/pause", "POST", cookie="dance_console=1.2.3")
        assert (status, headers["location"]) == (303, "/login")
        app.state.site.link.close()

    asyncio.run(visit())


def test_the_guide_asks_for_a_base_model_only_while_the_live_one_is_untrained() -> None:
    told = "1 frame was refused lately, the last of camera untrained-horses 3 s ago: the header is no JSON"
    status = {
        **{"version": "v1", "frames": {"kept": 9}, "samples": {"labelled": 9}},
        **{"inference": {"enabled": True}, "warnings": [told]},
    }
    for untrained, state in ((False, "done"), (True, "next")):
        found = {step.title: step.state for step in steps(status | {"untrained": untrained})}
        assert found["Name the classes and bring a base model"] == state


def test_what_is_removed_by_time_is_told_by_the_clock_of_the_board() -> None:
    template = Pages.load("x").environment.get_template("purge.html")
    found = {"samples": 3, "in_running_round": 0, "versions": ()}
    about = {"path": "/samples", "navigation": NAVIGATION, "csrf": "", "asset": "/static/x", "fields": ()}
    begun, ended = 1_795_000_000.0, 1_795_010_000.0
    for meant, words in (
        ({"camera": "front", "after": begun}, f"Of camera front, from {clock(begun)}, in the board"),
        ({"before": ended}, f"Of all cameras, until {clock(ended)}, in the board"),
        ({"camera": "front"}, "Of camera front."),
    ):
        assert words in template.render(about, found=found, meant=meant)
    assert "Of all cameras" not in template.render(about, found=found, meant={"ids": ["a"]})
