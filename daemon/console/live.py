"""The first page: each camera's last frame with its mask, and the first steps of a new installation."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from dance_ondevice.daemon.console import guide
from dance_ondevice.daemon.console.hub import TooManyViewers
from dance_ondevice.daemon.console.pages import site_of, swatches

__all__ = ["routes"]


async def page(request: Request) -> Response:
    """The page; a script fills it from events."""
    site = site_of(request)
    live = await site.link.ask("live")
    status = live["status"]
    steps = guide.steps(status)
    return site.pages.render(
        request,
        "live.html",
        status=status,
        cameras=live["cameras"],
        classes=swatches(status),
        steps=() if guide.finished(steps) else steps,
    )


async def events(request: Request) -> Response:
    """The state of all cameras once a second."""
    site = site_of(request)
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    try:
        site.hub.check_free()
    except TooManyViewers as error:
        return PlainTextResponse(str(error), 503)
    # A proxy in front would gather events until some buffer is full; nginx and others know this header.
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(site.hub.events(), media_type="text/event-stream", headers=headers)


async def frame(request: Request) -> Response:
    """A camera's newest frame; the header ``X-Frame-Id`` names it, for its mask."""
    name, view = await site_of(request).hub.newest(request.path_params["camera"])
    return Response(view.image, media_type=view.kind, headers={"X-Frame-Id": name})


async def mask(request: Request) -> Response:
    """The class ids of a frame that was just sent, row by row; nothing (204) where it has none."""
    view = site_of(request).hub.view(request.path_params["camera"], request.path_params["id"])
    if view is None or view.mask is None:
        return Response(status_code=204)
    height, width = view.mask_size
    return Response(
        view.mask,
        media_type="application/octet-stream",
        headers={"Content-Encoding": "deflate", "X-Mask-Height": str(height), "X-Mask-Width": str(width)},
    )


routes = (
    Route("/", page),
    Route("/live/events", events),
    Route("/live/{camera}/frame", frame),
    Route("/live/{camera}/{id}/mask", mask),
)
