"""The gallery of stored samples, one sample, and their removal."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dance_ondevice.daemon.console.bodies import form
from dance_ondevice.daemon.console.pages import site_of, swatches

__all__ = ["routes"]

_FILTERS = ("camera", "condition", "label", "split")
_LABELS: Mapping[str, Mapping[str, object]] = {
    "yes": {"labelled": True},
    "no": {"labelled": False},
    "person": {"source": "person"},
    "teacher": {"source": "teacher"},
    "unreadable": {"unreadable": True},
}
_SIDES = {"s": 240, "m": 960, "l": 1920}


async def page(request: Request) -> Response:
    """One page of the gallery."""
    site = site_of(request)
    chosen = {name: request.query_params.get(name, "") for name in _FILTERS}
    wanted: dict[str, Any] = {name: chosen[name] for name in ("camera", "condition", "split")}
    wanted |= _LABELS.get(chosen["label"], {})
    for edge in ("before", "after"):
        text = request.query_params.get(edge, "")
        if text.isdecimal() and len(text) < 19:
            wanted[edge] = int(text)
    found, status = await asyncio.gather(site.link.ask("samples", **wanted), site.link.ask("status"))
    kept = {name: value for name, value in chosen.items() if value}

    def turn(edge: str, number: int | None) -> str | None:
        return None if number is None else "/samples?" + urlencode({**kept, edge: number})

    known = ((status.get("conditions") or {}).get("known") or {}).keys()
    return site.pages.render(
        request,
        "samples.html",
        status=status,
        samples=found["samples"],
        cameras=found["cameras"],
        conditions=sorted(known),
        chosen=chosen,
        filtered=bool(kept),
        older=turn("before", found["older"]),
        newer=turn("after", found["newer"]),
        removed=request.query_params.get("removed", ""),
        now=time.time(),
    )


async def sample(request: Request) -> Response:
    """All that is known of one sample."""
    site = site_of(request)
    found, status = await asyncio.gather(
        site.link.ask("sample", id=request.path_params["id"]), site.link.ask("status")
    )
    names = {each["number"]: each for each in swatches(status)}
    return site.pages.render(
        request,
        "sample.html",
        sample=found,
        classes=[names[number] for number in found["classes"] if number in names],
    )


async def image(request: Request) -> Response:
    """A stored image at one of three sizes."""
    longest = _SIDES.get(request.query_params.get("size", "s"), _SIDES["s"])
    found = await site_of(request).link.ask("image", id=request.path_params["id"], longest=longest)
    return Response(base64.b64decode(found["data"]), media_type=found["kind"])


async def plan(request: Request) -> Response:
    """What a removal would remove, and which versions have learnt from it; nothing is removed yet."""
    site = site_of(request)
    fields = await form(request)
    meant = _meant(fields)
    found = await site.link.ask("purge_plan", timeout=60.0, **meant)
    return site.pages.render(request, "purge.html", found=found, fields=_hidden(fields), meant=meant)


async def purge(request: Request) -> Response:
    """Remove what the plan said, piece by piece, so that the daemon's other work goes on."""
    site = site_of(request)
    meant = _meant(await form(request))
    removed, more = 0, True
    while more:
        done = await site.link.ask("purge_some", timeout=60.0, **meant)
        removed += done["removed"]
        more = done["more"] and done["removed"] > 0
    return RedirectResponse(f"/samples?removed={removed}", 303)


def _meant(fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Samples that were ticked, or those of a camera and time.

    Raises:
        HTTPException: Nothing was chosen, or a time cannot be read.
    """
    if fields.get("id"):
        return {"ids": list(fields["id"])}
    meant: dict[str, Any] = {}
    if camera := fields.get("camera", [""])[0]:
        meant["camera"] = camera
    for edge in ("before", "after"):
        if text := fields.get(edge, [""])[0]:
            try:
                meant[edge] = datetime.fromisoformat(text).astimezone().timestamp()
            except (ValueError, OverflowError, OSError) as error:
                raise HTTPException(400, f"{text!r} is no time") from error
    if not meant:
        raise HTTPException(400, "Nothing is chosen: tick samples, or give a camera or a time.")
    return meant


def _hidden(fields: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name in ("id", "camera", "before", "after") for value in fields.get(name, ())]


routes = (
    Route("/samples", page),
    Route("/samples/purge", plan, methods=["POST"]),
    Route("/samples/purge/confirmed", purge, methods=["POST"]),
    Route("/samples/{id}", sample),
    Route("/samples/{id}/image", image),
)
