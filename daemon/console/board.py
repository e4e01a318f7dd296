"""The board: what its energy goes into, what is wrong with it, and how to make a backup."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dance_ondevice.daemon.console.charts import energy_chart
from dance_ondevice.daemon.console.pages import site_of

__all__ = ["routes"]


async def energy(request: Request) -> Response:
    """The budget, and joules now and by day."""
    site = site_of(request)
    status, past = await asyncio.gather(site.link.ask("status"), site.link.ask("energy_days"))
    return site.pages.render(
        request, "energy.html", status=status, days=past["days"], chart=energy_chart(past["days"])
    )


async def health(request: Request) -> Response:
    """Warnings, the last checkup, and the commands of a backup."""
    site = site_of(request)
    status, checkup = await asyncio.gather(site.link.ask("status"), site.link.ask("doctor"))
    return site.pages.render(request, "health.html", status=status, checkup=checkup)


async def check(request: Request) -> Response:
    """Begin a checkup."""
    await site_of(request).link.ask("doctor", start=True)
    return RedirectResponse("/health", 303)


routes = (
    Route("/energy", energy),
    Route("/health", health),
    Route("/health/check", check, methods=["POST"]),
)
