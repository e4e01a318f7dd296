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

from dance_ondevice.daemon.console.access import COOKIE, Sessions
from dance_ondevice.daemon.console.app import build
from dance_ondevice.daemon.console.guide import steps
from dance_ondevice.daemon.console.link import DaemonLink

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


async def get(app: Starlette, path: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and the first piece of the body of a page, with a login."""
    cookie = Sessions(TOKEN).begin()
    headers = [(b"accept", b"text/html"), (b"cookie", f"{COOKIE}={cookie}".encode())]
    scope = {
        **{"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path},
        **{"raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers},
        **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)},
    }
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def receive() -> dict[str, Any]:
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


def test_the_guide_asks_for_a_base_model_only_while_the_live_one_is_untrained() -> None:
    told = "1 frame was refused lately, the last of camera untrained-horses 3 s ago: the header is no JSON"
    status = {
        **{"version": "v1", "frames": {"kept": 9}, "samples": {"labelled": 9}},
        **{"inference": {"enabled": True}, "warnings": [told]},
    }
    for untrained, state in ((False, "done"), (True, "next")):
        found = {step.title: step.state for step in steps(status | {"untrained": untrained})}
        assert found["Name the classes and bring a base model"] == state
