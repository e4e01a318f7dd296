"""Runs the console until it is stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

__all__ = ["Listen", "PatientProtocol", "Renewal", "serve"]

log = logging.getLogger(__name__)

#: Seconds that open pages get at a stop; their events never end by themselves.
_STOP_SECONDS = 2
#: Seconds between two looks at the certificate.
_LOOK_SECONDS = 60.0
_CONNECTIONS = 128
#: Seconds after which a connection is over whose other end acknowledges nothing: a telephone that left the
#: network would stay one of the viewers for a quarter of an hour.
_GONE_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Listen:
    """Where to listen, with TLS where both files are given."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @property
    def secure(self) -> bool:
        """Whether browsers connect with TLS."""
        return self.certificate is not None

    def url(self, port: int) -> str:
        """The address for a browser on this machine or, where one name is listened to, anywhere."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)
        shown = f"[{host}]" if ":" in host else host
        return f"http{'s' if self.secure else ''}://{shown}:{port}/"


class PatientProtocol(H11Protocol):
    """HTTP over a connection that is closed when the head of a request is too long in coming.

    uvicorn waits without limit for the first head, and for a later one as soon as its first byte is there:
    somebody who may not log in could hold all connections.
    """

    #: Seconds between looks; a connection without a request at two of them, and none between, is closed.
    patience: ClassVar[float] = 10.0

    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to look."""
        super().connection_made(transport)
        self._look = self.loop.call_later(self.patience, self._close_unless_asked, self.cycle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _close_unless_asked(self, last: RequestResponseCycle | None) -> None:
        """Close the connection where ``last``, the request of the look before, is done and still the last."""
        now = self.cycle
        if now is last and (now is None or now.response_complete):
            self.transport.close()
            return
        self._look = self.loop.call_later(self.patience, self._close_unless_asked, now)


class Renewal:
    """Takes a renewed certificate into use: they are renewed every few weeks, a console runs for years."""

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        """``context`` has the present ones; connections that begin later get what it has then."""
        self._context = context
        self._files = certificate, key
        self._seen = self._state()

    def look(self) -> None:
        """Load the files anew if they have changed; what does not go together (yet) is left for later."""
        state = self._state()
        if state is None or state == self._seen:
            return
        certificate, key = self._files
        try:
            # Tried elsewhere first: a failure would leave the new certificate with the old key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
            self._context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            log.warning("the renewed certificate cannot be used file=%s error=%s", certificate, error)
        else:
            self._seen = state
            log.info("certificate renewed file=%s", certificate)

    def _state(self) -> tuple[tuple[int, int], ...] | None:
        try:
            stats = [file.stat() for file in self._files]
        except OSError:  # being replaced
            return None
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)


class _Server(uvicorn.Server):
    """Reports the address once connections are accepted, and looks after the certificate."""

    def __init__(self, config: uvicorn.Config, listen: Listen, on_ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._listen = listen
        self._on_ready = on_ready
        self._renewing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready(self._listen.url(self.servers[0].sockets[0].getsockname()[1]))
            if self.config.ssl is not None and self._listen.certificate and self._listen.key:
                renewal = Renewal(self.config.ssl, self._listen.certificate, self._listen.key)
                self._renewing = asyncio.create_task(_looking(renewal))


async def _looking(renewal: Renewal) -> None:
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        renewal.look()


def _bound(listen: Listen) -> socket.socket:
    """The socket that listens; what it accepts has its options."""
    bound = socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _GONE_SECONDS)
        bound.bind((listen.host, listen.port))
    except BaseException:
        bound.close()
        raise
    return bound


def serve(app: Starlette, listen: Listen, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; ``on_ready`` is called with the address once it answers.

    Raises:
        OSError: The address is in use, or a file of TLS cannot be read.
        ssl.SSLError: Certificate and key cannot be used.
    """
    tls = {}
    if listen.certificate is not None:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(listen.certificate, listen.key)
        tls = {"ssl_certfile": str(listen.certificate), "ssl_keyfile": str(listen.key)}
    with _bound(listen) as bound:
        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_STOP_SECONDS,
            **tls,  # type: ignore[arg-type]  # one type of value stands for two options
        )
        server = _Server(config, listen, on_ready)
        # The server raises the signal that stopped it once more when all is closed: that is no failure.
        before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
        try:
            asyncio.run(server.serve([bound]))
        finally:
            signal.signal(signal.SIGTERM, before)
