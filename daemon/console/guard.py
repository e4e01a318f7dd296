"""Stands before every page: security headers on each answer, and no page without a login."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dance_ondevice.daemon.console.access import Sessions, same
from dance_ondevice.daemon.console.bodies import form
from dance_ondevice.daemon.console.pages import site_of

__all__ = ["OPEN_PATHS", "Guard"]

log = logging.getLogger(__name__)

#: Paths that need no login.
OPEN_PATHS = frozenset({"/healthz", "/login", "/login/style.css"})
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_NO_STORE = "no-store"
#: Requests from a page of this server, or typed by the user.
_OWN_SITES = ("same-origin", "none", "")


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, sessions: Callable[[], Awaitable[Sessions | None]]) -> None:
        """``sessions`` returns how cookies are checked, None while no token is known."""
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", _NO_STORE)
            await send(message)

        request = Request(scope, receive)
        refused = await self._refuse(request)
        if refused is not None:
            await refused(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    async def _refuse(self, request: Request) -> Response | None:
        path = request.url.path
        if path in OPEN_PATHS or (path == "/" and "token" in request.query_params):
            return None
        sessions = await self._sessions()
        cookie = "" if sessions is None else request.cookies.get(sessions.cookie, "")
        if sessions is None or not sessions.valid(cookie):
            if "text/html" in request.headers.get("accept", ""):
                return RedirectResponse("/login", 303)
            return JSONResponse({"error": "log in first"}, 401)
        request.state.csrf = sessions.csrf(cookie)
        if request.method not in ("GET", "HEAD"):
            return await self._refuse_change(request)
        return None

    async def _refuse_change(self, request: Request) -> Response | None:
        """Refuse a change that a page of another site may have sent."""
        given = request.headers.get("x-csrf-token", "")
        if not given and request.headers.get("content-type", "").startswith("application/x-www-form-"):
            given = (await form(request)).get("csrf", [""])[0]
        foreign = request.headers.get("sec-fetch-site", "") not in _OWN_SITES
        if foreign or not same(given, request.state.csrf):
            log.warning("change refused path=%s reason=no csrf token", request.url.path)
            if "text/html" in request.headers.get("accept", ""):
                return site_of(request).pages.render(
                    request,
                    "problem.html",
                    status_code=403,
                    title="Nothing was changed",
                    problem="The page is of an earlier login. Load it again, and press once more.",
                )
            # A script of a page from before a new login goes on with the present secret. Pages of other
            # sites could not read this answer, and do not get it all the same.
            secret = {} if foreign else {"csrf": request.state.csrf}
            return JSONResponse({"error": "this page is too old; load it again", **secret}, 403)
        return None
