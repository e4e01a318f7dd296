"""The HTTP endpoint that Prometheus scrapes."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app


class MetricsAddressInUse(OSError):  # noqa: N818 - a state of the world
    """The metrics address is in use; the message names the key to change."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread for each request, so that a slow scraper delays no other; each reports its CPU time."""

    daemon_threads = True
    #: Receives the CPU seconds of a thread that ends.
    spent: Callable[[float], None] = staticmethod(lambda _: None)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.spent(time.thread_time())


class _SixServer(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    """A request handler that does not log scrapes."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


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
                self._host, self._port, make_wsgi_app(self._registry), kind, handler_class=_QuietHandler
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
