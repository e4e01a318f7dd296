"""The board: what its energy goes into, how it stands in its fleet, what is wrong with it, and a backup."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from dance_ondevice.daemon.console.charts import energy_chart
from dance_ondevice.daemon.console.pages import site_of

__all__ = ["routes"]


async def energy(request: Request) -> Response:
    """The budget, and joules now and by day."""
    site = site_of(request)
    status, past = await asyncio.gather(site.link.ask("status"), site.link.ask("energy_days"))
    return site.pages.render(
        request,
        "energy.html",
        status=status,
        days=past["days"],
        hours=past["hours"],
        chart=energy_chart(past["days"], "day"),
        by_hour=energy_chart(past["hours"], "hour"),
    )


async def fleet(request: Request) -> Response:
    """The board's part in its fleet, and who else is in."""
    site = site_of(request)
    found = (await site.link.ask("fleet"))["fleet"]
    return site.pages.render(request, "fleet.html", fleet=found, now=time.time())


async def health(request: Request) -> Response:
    """Warnings, the last checkup, and a backup."""
    site = site_of(request)
    status, checkup, backup = await asyncio.gather(
        site.link.ask("status"), site.link.ask("doctor"), site.link.ask("backup")
    )
    return site.pages.render(request, "health.html", status=status, checkup=checkup, backup=backup)


async def check(request: Request) -> Response:
    """Begin a checkup."""
    await site_of(request).link.ask("doctor", start=True)
    return RedirectResponse("/health", 303)


async def begin_backup(request: Request) -> Response:
    """Have the daemon make a backup."""
    await site_of(request).link.ask("backup", start=True)
    return RedirectResponse("/health#backup-title", 303)


async def download(request: Request) -> Response:
    """The backup that is ready, piece by piece; the daemon removes its copy once all of it is sent."""
    site = site_of(request)
    ready = await site.link.ask("backup")
    if not ready["bytes"]:
        return RedirectResponse("/health#backup-title", 303)
    name = time.strftime("dance-ondevice-%Y-%m-%d.tar")
    headers = {
        "Content-Length": str(ready["bytes"]),
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    if request.method == "HEAD":  # as download managers ask before they fetch
        return Response(media_type="application/x-tar", headers=headers)

    async def pieces() -> AsyncIterator[bytes]:
        sent = 0
        while sent < ready["bytes"]:
            piece = base64.b64decode((await site.link.ask("backup", offset=sent))["data"])
            if not piece:
                break  # it went meanwhile: the length tells the browser that some is missing
            sent += len(piece)
            yield piece
        await site.link.ask("backup", discard=True)

    return StreamingResponse(pieces(), media_type="application/x-tar", headers=headers)


routes = (
    Route("/energy", energy),
    Route("/fleet", fleet),
    Route("/health", health),
    Route("/health/check", check, methods=["POST"]),
    Route("/health/backup", begin_backup, methods=["POST"]),
    Route("/health/backup.tar", download),
)
