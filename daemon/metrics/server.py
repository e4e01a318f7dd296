"""The HTTP endpoint that Prometheus scrapes."""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

log = logging.getLogger(__name__)


class MetricsAddressInUse(OSError):  # noqa: N818 - a state of the world
    """The metrics address is in use; the message names the key to change."""


#: Requests that are read or answered at once; each has a thread.
WORKERS = 8
#: Seconds in which a request must be there, and in which its answer must be taken.
REQUEST_SECONDS = 5.0
ANSWER_SECONDS = 60.0


class _Visits:
    """The connections that are open, oldest first, each with the time when it must be done."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        #: By connection: when it ends at the latest, and whether its request is there.
        self._open: dict[socket.socket, tuple[float, bool]] = {}

    def enter(self, request: socket.socket) -> bool:
        """Take a connection; where there are too many, the oldest without a request goes. False: none can."""
        with self._lock:
            if len(self._open) >= WORKERS:
                waiting = next((each for each, (_, asked) in self._open.items() if not asked), None)
                if waiting is None:
                    return False
                self._end(waiting)
            self._open[request] = (self._monotonic() + REQUEST_SECONDS, False)
            return True

    def asked(self, request: socket.socket) -> None:
        """Note that a request has arrived in full: it is answered, whoever comes after it."""
        with self._lock:
            if request in self._open:
                self._open[request] = (self._monotonic() + ANSWER_SECONDS, True)

    def leave(self, request: socket.socket) -> None:
        """Forget a connection that is about to be closed."""
        with self._lock:
            self._open.pop(request, None)

    def end_late(self) -> None:
        """End those that have had their time."""
        with self._lock:
            now = self._monotonic()
            for request in [each for each, (until, _) in self._open.items() if now >= until]:
                self._end(request)

    def _end(self, request: socket.socket) -> None:
        # Its thread, which waits for it, then closes it.
        del self._open[request]
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread for each request, so that a slow scraper delays no other; each reports its CPU time.

    The number of threads is small. A connection that does not send its request makes way for the next one,
    and none stays longer than its time limit.
    """

    daemon_threads = True
    #: Connections that wait to be accepted: with socketserver's 5 a scrape among many waits for seconds.
    request_queue_size = 128
    #: Receives the CPU seconds of a thread that ends.
    spent: Callable[[float], None] = staticmethod(lambda _: None)

    def __init__(self, *arguments: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.visits = _Visits(monotonic)
        super().__init__(*arguments)

    def server_bind(self) -> None:
        # As socketserver does, and not as http.server, which asks DNS for its own name: where none answers,
        # that keeps the start waiting for half a minute, and nobody reads the name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.visits.enter(request):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError as error:  # no thread can be started now
            log.debug("scrape not answered error=%s", error)
            self.visits.leave(request)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.spent(time.thread_time())

    def shutdown_request(self, request: Any) -> None:
        self.visits.leave(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        self.visits.end_late()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A visitor that is slow or leaves is no event for the log.
        log.debug("scrape failed client=%s", client_address, exc_info=True)


class _SixServer(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    """A request handler that does not log scrapes and limits the time of each connection."""

    #: Time limit of each read and write, in seconds.
    timeout = REQUEST_SECONDS
    server: _Server

    def parse_request(self) -> bool:
        there = super().parse_request()
        if there:
            self.server.visits.asked(self.request)
        return there

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _app(registry: CollectorRegistry) -> Callable[[dict[str, Any], Callable[..., Any]], list[bytes]]:
    """Return the application that answers scrapes, and HEAD, as monitors of addresses ask, like GET."""
    scrape = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["REQUEST_METHOD"] != "HEAD":
            return list(scrape(environ, start_response))
        found: dict[str, Any] = {}

        def keep(status: str, headers: list[tuple[str, str]]) -> None:
            found.update(status=status, headers=headers)

        size = sum(map(len, scrape({**environ, "REQUEST_METHOD": "GET"}, keep)))
        start_response(found["status"], [*found["headers"], ("Content-Length", str(size))])
        return [b""]

    return answer


class MetricsServer:
    """Serves a registry; owns its thread and socket from ``start`` to ``close``."""

    def __init__(
        self, listen: str, registry: CollectorRegistry, *, spent: Callable[[float], None] = lambda _: None
    ) -> None:
        """Create the server without binding it.

        Args:
            listen: ``host:port``.
            registry: The registry to serve.
            spent: Receives the CPU seconds of each request; called from its thread.
        """
        host, _, port = listen.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._registry = registry
        self._spent = spent
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def native_id(self) -> int | None:
        """The kernel's id of the thread that accepts connections; None while there is none."""
        return self._thread.native_id if self._thread is not None else None

    def start(self) -> str:
        """Bind and serve; returns the URL (the real port when 0 was asked for).

        Raises:
            MetricsAddressInUse: Another program listens there.
        """
        kind = _SixServer if ":" in self._host else _Server
        try:
            self._server = make_server(
                self._host, self._port, _app(self._registry), kind, handler_class=_QuietHandler
            )
        except OSError as error:
            raise MetricsAddressInUse(
                f"cannot serve metrics on {self._host}:{self._port}: {error.strerror or error}; "
                "change metrics.listen, or set metrics.enabled = false"
            ) from error
        self._server.spent = self._spent
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        host = f"[{self._host}]" if ":" in self._host else self._host
        return urlsplit(f"http://{host}:{self._server.server_port}/metrics").geturl()

    def close(self) -> None:
        """Stop serving and release the port."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(5)
            self._server = self._thread = None
