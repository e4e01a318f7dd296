"""Labels by correction: the frames most worth one, and what a person makes of them."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dance_ondevice.daemon.console.bodies import json_body
from dance_ondevice.daemon.console.pages import site_of, swatches

__all__ = ["routes"]

#: Choosing among very many samples takes seconds.
_CHOICE_SECONDS = 60.0


async def page(request: Request) -> Response:
    """The page; a script opens the frames one by one."""
    site = site_of(request)
    status, work = await asyncio.gather(
        site.link.ask("status"), site.link.ask("worklist", timeout=_CHOICE_SECONDS)
    )
    return site.pages.render(
        request,
        "label.html",
        status=status,
        work=work,
        classes=swatches(status),
        wanted=request.query_params.get("id", ""),
    )


async def worklist(request: Request) -> Response:
    """The frames that are still to do, in their order."""
    return JSONResponse(await site_of(request).link.ask("worklist", timeout=_CHOICE_SECONDS))


async def opened(request: Request) -> Response:
    """What is needed to correct one frame."""
    return JSONResponse(await site_of(request).link.ask("open_label", id=request.path_params["id"]))


async def save(request: Request) -> Response:
    """Store a label; 409 where somebody else was faster."""
    body = await json_body(request)
    sent: dict[str, Any] = {name: body.get(name) for name in ("ids", "size", "version", "taps", "seconds")}
    saved = await site_of(request).link.ask("save_label", id=request.path_params["id"], **sent)
    return JSONResponse(saved, 409 if saved["conflict"] else 200)


routes = (
    Route("/label", page),
    Route("/label/frames", worklist),
    Route("/label/frames/{id}", opened),
    Route("/label/frames/{id}", save, methods=["POST"]),
)
