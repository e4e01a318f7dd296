"""Asks the daemon once a second while anybody watches, and hands what it says to all who do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from dance_ondevice.daemon.console.guide import advice
from dance_ondevice.daemon.console.link import DaemonLink, NoDaemon, Refused

__all__ = ["Hub", "TooManyViewers", "View"]

log = logging.getLogger(__name__)

_EVERY = 1.0
_VIEWERS = 24
#: Frames of each camera that are kept for viewers who ask a moment later, and bytes of all.
_FRAMES, _BYTES = 3, 24 << 20
#: Seconds for which a frame is the newest without asking again.
_SAME_SECONDS = 0.5
_CAMERAS = 256
#: Seconds over which frames a second are counted.
_RATE_SECONDS = 10.0


class TooManyViewers(RuntimeError):  # noqa: N818 - read as a state
    """As many people watch as the console serves."""


@dataclass(frozen=True)
class View:
    """A frame as it goes to browsers: an image, and its mask packed by zlib with (height, width), if any."""

    image: bytes
    kind: str
    mask: bytes | None
    mask_size: tuple[int, int]


class Hub:
    """One task asks, all viewers get the latest answer; for one event loop."""

    def __init__(self, link: DaemonLink) -> None:
        self._link = link
        self._viewers = 0
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._number = 0
        self._latest: bytes = b""
        self._counts: dict[str, deque[tuple[float, int]]] = {}
        self._views: OrderedDict[tuple[str, str], View] = OrderedDict()
        self._fetching: dict[str, asyncio.Lock] = {}
        self._fetched: dict[str, tuple[str, float]] = {}

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events, the newest state each, until the viewer leaves.

        Raises:
            TooManyViewers: There are too many already.
        """
        self._viewers += 1
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._ask())
            seen = 0
            yield b"retry: 2000\n\n"
            if self._latest:
                seen = self._number
                yield self._latest
            while True:
                async with self._changed:
                    # mypy cannot infer the type of a lambda with a default.
                    await self._changed.wait_for(lambda seen=seen: self._number != seen)  # type: ignore[misc]
                    seen = self._number
                    latest = self._latest
                yield latest
        finally:
            self._viewers -= 1

    def check_free(self) -> None:
        """Check that one more may watch.

        Raises:
            TooManyViewers: There are too many already.
        """
        if self._viewers >= _VIEWERS:
            raise TooManyViewers(f"{_VIEWERS} pages are open already; close one")

    async def close(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def newest(self, camera: str) -> tuple[str, View]:
        """A camera's newest frame and its id; viewers who ask at once cause one request to the daemon.

        Raises:
            NoDaemon, Refused: There is none.
        """
        if len(self._fetching) > _CAMERAS:
            self._fetching.clear()
        async with self._fetching.setdefault(camera, asyncio.Lock()):
            name, at = self._fetched.get(camera, ("", 0.0))
            found = self._views.get((camera, name))
            if found is None or time.monotonic() - at > _SAME_SECONDS:
                name, found = await self._fetch(camera)
                self._keep(camera, name, found)
        return name, found

    def view(self, camera: str, identifier: str) -> View | None:
        """A frame that ``newest`` has returned lately; None if it is gone."""
        return self._views.get((camera, identifier))

    async def _fetch(self, camera: str) -> tuple[str, View]:
        answer = await self._link.ask("live_view", camera=camera)
        image, mask = answer["image"], answer["mask"]
        return str(answer["id"]), View(
            image=base64.b64decode(image["data"]),
            kind=image["kind"],
            mask=base64.b64decode(mask["ids"]) if mask else None,
            mask_size=(mask["size"][0], mask["size"][1]) if mask else (0, 0),
        )

    def _keep(self, camera: str, identifier: str, view: View) -> None:
        if len(self._fetched) > _CAMERAS:
            self._fetched.clear()
        self._fetched[camera] = identifier, time.monotonic()
        self._views[camera, identifier] = view
        self._views.move_to_end((camera, identifier))
        of_camera = [key for key in self._views if key[0] == camera]
        for key in of_camera[:-_FRAMES]:
            del self._views[key]
        while sum(len(each.image) + len(each.mask or b"") for each in self._views.values()) > _BYTES:
            self._views.popitem(last=False)

    async def _ask(self) -> None:
        while self._viewers:
            try:
                answer = await self._link.ask("live", timeout=10.0)
                event, state = "live", self._state(answer)
            except (NoDaemon, Refused) as error:
                event, state = "gone", {"message": str(error)}
                self._views.clear()
            except (KeyError, TypeError) as error:  # a daemon of another release answers otherwise
                log.error("the daemon's answer is not understood error=%r", error)
                text = "The console is of another release than the daemon: restart the console, too."
                event, state = "gone", {"message": text}
            async with self._changed:
                self._number += 1
                self._latest = b"event: %s\ndata: %s\n\n" % (event.encode(), msgspec.json.encode(state))
                self._changed.notify_all()
            await asyncio.sleep(_EVERY)
        self._latest = b""

    def _state(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        status, now = answer["status"], time.monotonic()
        rounds = status["rounds"]
        for camera in answer["cameras"]:
            camera["per_second"] = self._rate(camera["name"], sum(camera["frames"].values()), now)
        return {
            "cameras": answer["cameras"],
            "version": status["version"],
            "paused": status["paused"],
            "round": rounds["progress"] or ({"round": rounds["running"]} if rounds["running"] else None),
            "next": advice(status["next_step"]),
            "warnings": len(status["warnings"]),
        }

    def _rate(self, camera: str, frames: int, now: float) -> float | None:
        counts = self._counts.setdefault(camera, deque())
        if counts and frames < counts[-1][1]:  # the daemon was started again
            counts.clear()
        counts.append((now, frames))
        while len(counts) > 2 and now - counts[0][0] > _RATE_SECONDS:
            counts.popleft()
        (then, before), (_, after) = counts[0], counts[-1]
        return (after - before) / (now - then) if now > then else None
