"""Puts the console together: login, pages, static files, and what is shown where something is wrong."""

from __future__ import annotations

import gzip
import logging
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files

from jinja2 import UndefinedError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from dance_ondevice import __version__
from dance_ondevice.daemon.console import board, label, learning, live, samples
from dance_ondevice.daemon.console.access import SESSION_SECONDS, Attempts, Sessions, same
from dance_ondevice.daemon.console.bodies import form
from dance_ondevice.daemon.console.guard import Guard
from dance_ondevice.daemon.console.hub import Hub
from dance_ondevice.daemon.console.link import DaemonLink, NoDaemon, Refused
from dance_ondevice.daemon.console.pages import Pages, Site, site_of

__all__ = ["build"]

log = logging.getLogger(__name__)

#: Returns the console's token; None while it cannot be known.
ReadToken = Callable[[DaemonLink], Awaitable[str | None]]
_IMMUTABLE = "public, max-age=31536000, immutable"
_LEAST_TO_PACK = 600


class Door:
    """Checks tokens and cookies; remembers the token, and reads it again when one does not fit."""

    def __init__(self, link: DaemonLink, read: ReadToken, *, secure: bool) -> None:
        """``secure`` keeps the cookie to TLS."""
        self._link = link
        self._read = read
        self._secure = secure
        self._known: Sessions | None = None
        self._attempts = Attempts()

    async def sessions(self) -> Sessions | None:
        """How cookies are checked; None while no token is known."""
        return self._known or await self._refresh()

    async def open(self, request: Request, token: str) -> Response:
        """Answer a login."""
        address = request.client.host if request.client else ""
        if wait := self._attempts.wait(address):
            return _login_page(
                request,
                429,
                f"Too many wrong tokens. Try again in {wait} s.",
                {"Retry-After": str(wait)},
            )
        sessions = await self._refresh()
        if sessions is None:
            return _login_page(request, 503, "No daemon runs, so the token is not known.")
        if not same(token.strip(), sessions.token):
            self._attempts.failed(address)
            log.warning("login refused address=%s", address)
            return _login_page(request, 403, "This is not the token.")
        # A page and not a redirect: a strict cookie would not be sent along when another site led here.
        done = HTMLResponse(
            '<!DOCTYPE html><html lang="en"><meta charset="utf-8">'
            '<meta http-equiv="refresh" content="0;url=/"><title>Console</title><a href="/">Go on</a></html>'
        )
        done.set_cookie(
            sessions.cookie,
            sessions.begin(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=self._secure,
        )
        return done

    async def _refresh(self) -> Sessions | None:
        token = await self._read(self._link)
        if token is None:
            return self._known
        if self._known is None or not same(token, self._known.token):
            self._known = Sessions(token)
        return self._known


def build(endpoint: Callable[[], str | None], read_token: ReadToken, *, secure: bool = False) -> Starlette:
    """The ASGI application.

    Args:
        endpoint: Returns where the daemon listens for the console; None while none runs.
        read_token: Returns the console's token.
        secure: Whether it is served with TLS.
    """
    link = DaemonLink(endpoint)
    hub = Hub(link)
    door = Door(link, read_token, secure=secure)
    static = _static_files()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await hub.close()
        link.close()

    async def enter(request: Request) -> Response:
        if "token" in request.query_params:
            return await door.open(request, request.query_params["token"])
        return await live.page(request)

    async def login(request: Request) -> Response:
        if request.method == "GET":
            return _login_page(request, 200, "")
        fields = await form(request)
        return await door.open(request, fields.get("token", [""])[0])

    async def logout(_: Request) -> Response:
        left = RedirectResponse("/login", 303)
        if sessions := await door.sessions():
            left.delete_cookie(sessions.cookie, httponly=True, samesite="strict", secure=secure)
        return left

    async def asset(request: Request) -> Response:
        return _asset(request, static, request.path_params["name"])

    async def login_style(request: Request) -> Response:
        return _asset(request, static, "style.css", cached="no-cache")

    app = Starlette(
        routes=[
            Route("/healthz", lambda _: PlainTextResponse("ok")),
            Route("/login", login, methods=["GET", "POST"]),
            Route("/login/style.css", login_style),
            Route("/logout", logout, methods=["POST"]),
            Route("/static/{version}/{name}", asset),
            Route("/favicon.ico", lambda request: _asset(request, static, "icon.svg")),
            Route("/", enter),
            *live.routes,
            *label.routes,
            *learning.routes,
            *samples.routes,
            *board.routes,
        ],
        middleware=[Middleware(Guard, sessions=door.sessions)],
        exception_handlers={
            NoDaemon: _no_daemon,
            Refused: _refused,
            HTTPException: _http_error,
            # What a daemon of another release answers may lack anything that a page shows.
            KeyError: _not_understood,
            TypeError: _not_understood,
            UndefinedError: _not_understood,
        },
        lifespan=lifespan,
    )
    app.state.site = Site(link=link, hub=hub, pages=Pages.load(__version__))
    return app


def _static_files() -> Mapping[str, tuple[str, bytes, bytes]]:
    """Every static file by name: media type, content, and content packed by gzip. They are small and few."""
    found = {}
    for file in files("dance_ondevice.daemon.console").joinpath("static").iterdir():
        data = file.read_bytes()
        kind = "text/javascript" if file.name.endswith(".js") else mimetypes.guess_type(file.name)[0]
        found[file.name] = (kind or "application/octet-stream", data, gzip.compress(data, 9, mtime=0))
    return found


def _asset(
    request: Request, static: Mapping[str, tuple[str, bytes, bytes]], name: str, cached: str = _IMMUTABLE
) -> Response:
    if name not in static:
        raise HTTPException(404)
    kind, plain, packed = static[name]
    headers = {"Cache-Control": cached, "Vary": "Accept-Encoding"}
    if len(plain) >= _LEAST_TO_PACK and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, media_type=kind, headers={**headers, "Content-Encoding": "gzip"})
    return Response(plain, media_type=kind, headers=headers)


def _login_page(
    request: Request, status_code: int, problem: str, headers: Mapping[str, str] | None = None
) -> Response:
    page = site_of(request).pages.render(request, "login.html", status_code=status_code, problem=problem)
    page.headers.update(headers or {})
    return page


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


async def _no_daemon(request: Request, error: Exception) -> Response:
    if not _wants_page(request):
        return JSONResponse({"error": str(error), "daemon": False}, 503)
    # What was pressed may have been done: the page comes back by reading, it never presses once more.
    url = request.url
    read = request.method == "GET"
    back = f"{url.path}?{url.query}".removesuffix("?") if read else f"/{url.path.split('/')[1]}"
    return site_of(request).pages.render(
        request, "stopped.html", status_code=503, problem=str(error), back=back
    )


async def _refused(request: Request, error: Exception) -> Response:
    if not _wants_page(request):
        return JSONResponse({"error": str(error)}, 422)
    return site_of(request).pages.render(
        request, "problem.html", status_code=422, title="That did not work", problem=str(error)
    )


async def _not_understood(request: Request, error: Exception) -> Response:
    log.error("page cannot be shown path=%s", request.url.path, exc_info=error)
    problem = (
        "The console does not understand the daemon's answer. If the program was upgraded since the console "
        "was started, start it again: sudo systemctl restart dance-ondevice-console, or dance-ondevice "
        "console. Its log has more."
    )
    if not _wants_page(request):
        return JSONResponse({"error": problem}, 500)
    return site_of(request).pages.render(
        request, "problem.html", status_code=500, title="That did not work", problem=problem
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not _wants_page(request):
        return JSONResponse({"error": error.detail}, error.status_code)
    title = "There is no such page" if error.status_code == 404 else "That did not work"
    return site_of(request).pages.render(
        request, "problem.html", status_code=error.status_code, title=title, problem=error.detail
    )
