"""A page on loopback with the latest picture of each camera, which reloads itself."""

from __future__ import annotations

import html
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

__all__ = ["Pictures", "WatchPage"]

_LOOPBACK = ("127.0.0.1", "localhost")
_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:1.5rem;color:#222}"
    "figure{margin:0 0 1.5rem}img{max-width:100%;border:1px solid #ccc}figcaption{color:#555}"
)


class Pictures:
    """The latest picture of each camera, a PNG; one thread writes them, others read them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, bytes] = {}

    def put(self, camera: str, png: bytes) -> None:
        """Replace a camera's picture."""
        with self._lock:
            self._latest[camera] = png

    def all(self) -> Mapping[str, bytes]:
        """The pictures by camera, in the order of their names."""
        with self._lock:
            return dict(sorted(self._latest.items()))


class WatchPage:
    """Serves pictures over HTTP to this machine only; a context manager."""

    def __init__(self, host: str, port: int, pictures: Pictures, *, seconds: int = 2) -> None:
        """Bind the address; ``port`` 0 takes a free one.

        Raises:
            ValueError: The host is not loopback; this is refused because the page has no login.
            OSError: The address cannot be bound.
        """
        if host not in _LOOPBACK:
            raise ValueError(
                f"{host} can be reached by others, and the page has no login; give {', '.join(_LOOPBACK)}, "
                "and look at it from elsewhere through `ssh -L 8088:127.0.0.1:8088 BOARD`"
            )
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(pictures, seconds))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="watch-page", daemon=True)

    @property
    def url(self) -> str:
        """The page's URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> WatchPage:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def page(cameras: Mapping[str, bytes], seconds: int) -> str:
    """The page's HTML; names come from senders, so they are escaped."""
    figures = "".join(
        f'<figure><img src="/{number}.png" alt="{html.escape(name)}"><figcaption>{html.escape(name)}'
        "</figcaption></figure>"
        for number, name in enumerate(cameras)
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="refresh" content="{seconds}">'
        f"<title>dance-ondevice watch</title><style>{_STYLE}</style></head><body>"
        f"{figures or '<p>No mask has come yet.</p>'}</body></html>"
    )


def _handler(pictures: Pictures, seconds: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        #: Seconds in which a request must be there, so that half ones keep no thread.
        timeout = 10

        def do_GET(self) -> None:
            # Another site's page whose name resolves to loopback must not see the camera.
            host = (self.headers.get("Host") or "").rsplit(":", 1)[0].strip("[]")
            latest = pictures.all()
            if host not in _LOOPBACK:
                self._answer(403, "text/plain; charset=utf-8", b"ask for 127.0.0.1")
            elif self.path == "/":
                self._answer(200, "text/html; charset=utf-8", page(latest, seconds).encode())
            elif (found := self._picture(latest)) is not None:
                self._answer(200, "image/png", found)
            else:
                self._answer(404, "text/plain; charset=utf-8", b"not found")

        def _picture(self, latest: Mapping[str, bytes]) -> bytes | None:
            number = self.path.removeprefix("/").removesuffix(".png")
            if not (self.path.endswith(".png") and number.isdecimal() and len(number) < 6):
                return None
            return dict(enumerate(latest.values())).get(int(number))

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header(
                "Content-Security-Policy", "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"
            )
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: the command reports its own progress."""

    return Handler
