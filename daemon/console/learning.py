"""Rounds and versions: how they went, why, and what a person can do about them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from dance_ondevice.daemon.console.bodies import form
from dance_ondevice.daemon.console.charts import miou_chart
from dance_ondevice.daemon.console.link import Refused
from dance_ondevice.daemon.console.pages import site_of

__all__ = ["routes"]

_ACTIONS = frozenset({"pause", "resume", "train_now", "rollback", "promote"})


async def page(request: Request) -> Response:
    """Rounds and versions, newest first."""
    site = site_of(request)
    status, past = await asyncio.gather(site.link.ask("status"), site.link.ask("learning"))
    return site.pages.render(
        request,
        "learning.html",
        status=status,
        rounds=past["rounds"],
        versions=past["versions"],
        chart=miou_chart(past["rounds"]),
        answer=await _answer(request),
    )


async def version(request: Request) -> Response:
    """One version: the gate's tables and its reasons."""
    site = site_of(request)
    name = request.path_params["version"]
    status, card = await asyncio.gather(site.link.ask("status"), site.link.ask("version", version=name))
    return site.pages.render(request, "version.html", status=status, name=name, card=card, gate=_gate(card))


async def act(request: Request) -> Response:
    """Do what a button says, then show the page with what came of it."""
    site = site_of(request)
    action = request.path_params["action"]
    if action not in _ACTIONS:
        raise HTTPException(404)
    fields = await form(request)
    arguments: dict[str, Any] = (
        {"version": fields["version"][0]} if action == "promote" and "version" in fields else {}
    )
    if action == "promote" and not arguments:
        raise HTTPException(400, "no version was named")
    answer = await site.link.ask(action, **arguments)
    number = answer.get("request") if isinstance(answer, dict) else None
    query = "" if number is None else f"?request={quote(str(number))}"
    return RedirectResponse(f"/learning{query}", 303)


async def state(request: Request) -> Response:
    """How far a request is, for scripts."""
    answer = await _answer(request)
    return JSONResponse(answer or {})


async def _answer(request: Request) -> Mapping[str, Any] | None:
    number = request.query_params.get("request", "")
    if not (number.isdecimal() and len(number) < 10):
        return None
    try:
        found = await site_of(request).link.ask("train_status", request=int(number))
    except Refused:  # it was asked of a daemon that was stopped since
        return None
    return found if isinstance(found, dict) else None


def _gate(card: Mapping[str, Any]) -> dict[str, Any]:
    """The gate's certificate with all keys that the template reads."""
    gate = card.get("gate") or {}
    table = gate.get("table") or {}
    names = list(card.get("classes") or ())
    before = dict(zip(names, gate.get("iou_per_class_before") or (), strict=False))
    after = dict(zip(names, gate.get("iou_per_class") or (), strict=False))
    return {
        "outcome": gate.get("outcome"),
        "reasons": gate.get("reasons") or (),
        "before": gate.get("miou_before"),
        "after": gate.get("miou_after"),
        "frozen": gate.get("miou_frozen"),
        "gain": table.get("gain"),
        "lower": table.get("lower"),
        "upper": table.get("upper"),
        "units": table.get("units"),
        "unit": table.get("unit"),
        "groups": table.get("groups") or (),
        "classes": [
            {**row, "before": before.get(row["class"]), "after": after.get(row["class"])}
            for row in table.get("classes") or ()
        ],
    }


routes = (
    Route("/learning", page),
    Route("/learning/state", state),
    Route("/learning/version/{version}", version),
    Route("/learning/{action}", act, methods=["POST"]),
)
