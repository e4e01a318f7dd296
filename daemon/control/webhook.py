"""Posts notices to a webhook, on a thread of its own: nothing in the daemon waits for the answer.

A notice is sent once while its reason lasts. What cannot be delivered is tried again, ever less often, while
it is still true. Neither a slow server nor a dead one ends or delays anything else.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

from dance_ondevice.daemon.system.guard import Guard
from dance_ondevice.daemon.system.service import Service

__all__ = ["Delivery", "Notice", "Webhook", "post"]

log = logging.getLogger(__name__)

#: Seconds between two looks for something new.
_LOOK_SECONDS = 15.0
#: Seconds that connecting, sending and each part of the answer may take.
_ANSWER_SECONDS = 10.0
#: Seconds that all of it may take: a server that sends a byte now and then would keep each part going.
_WHOLE_SECONDS = 60.0
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 3600.0
#: Notices that are sent at most in one look, and that are remembered as sent.
_MOST_AT_ONCE, _MOST_KNOWN = 16, 256
#: A reason that went away and came back within so many seconds is not told again.
_QUIET_SECONDS = 6 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something that a person must see to.

    Attributes:
        key: What tells it from others; the same one is not sent again.
        kind: ``labels_wanted`` or ``warning``.
        text: A sentence that says what to do.
        facts: Further fields of the message, by name.
    """

    key: str
    kind: str
    text: str
    facts: Mapping[str, object] = field(default_factory=dict)


class DeliveryFailed(OSError):  # noqa: N818 - the name says what happened
    """The server answered, and not with success."""


#: Posts a body to an address; raises an OSError or http.client.HTTPException where it cannot.
Post = Callable[[str, bytes], None]


def post(
    url: str, body: bytes, *, seconds: float = _ANSWER_SECONDS, whole_seconds: float = _WHOLE_SECONDS
) -> None:
    """Post JSON over HTTP or HTTPS. Redirects are not followed, proxies not used, the answer's body not read.

    Args:
        url: Where to.
        body: The JSON.
        seconds: How long connecting, sending and each part of the answer may take.
        whole_seconds: How long all that follows the connection may take.

    Raises:
        OSError: No connection, no trust in its certificate, no answer in time, or one other than 2xx.
        http.client.HTTPException: The answer is no HTTP.
    """
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    connection = http.client.HTTPConnection(host, parts.port or (443 if secure else 80), timeout=seconds)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    late = threading.Event()
    try:
        connection.connect()
        with _ended_after(whole_seconds, connection.sock, late):
            if secure:
                context = ssl.create_default_context()
                connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
            connection.request(
                "POST", path, body, {"Content-Type": "application/json", "User-Agent": "dance-ondevice"}
            )
            answer = connection.getresponse()
        if late.is_set():  # what had come by then may look like a whole answer
            raise TimeoutError
        if not 200 <= answer.status < 300:
            raise DeliveryFailed(f"it answered with status {answer.status}")
    except (OSError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError(f"no answer within {whole_seconds:.0f} seconds") from error
        raise
    finally:
        connection.close()


@contextmanager
def _ended_after(seconds: float, connection: socket.socket, late: threading.Event) -> Iterator[None]:
    """End a connection that takes longer, whatever waits for it, and set ``late``."""
    # A second descriptor of the connection: TLS takes the first one over.
    with connection.dup() as same:

        def end() -> None:
            late.set()
            with contextlib.suppress(OSError):
                same.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


@dataclass
class Delivery:
    """Which notices are due; knows no thread and no socket.

    Attributes:
        sent: When each notice was last true, by key, of those that were delivered.
        failures: Failed deliveries in a row.
        retry_at: Monotonic second before which nothing is tried again.
        total: Delivered notices.
    """

    sent: dict[str, float] = field(default_factory=dict)
    failures: int = 0
    retry_at: float = -math.inf
    total: int = 0

    def due(self, notices: Iterable[Notice], now: float) -> list[Notice]:
        """The notices to deliver now, in their order; those delivered already are taken note of."""
        found = []
        for notice in notices:
            last = self.sent.get(notice.key)
            if last is not None and now - last < _QUIET_SECONDS:
                self.sent[notice.key] = now
            else:
                found.append(notice)
        return found[:_MOST_AT_ONCE] if now >= self.retry_at else []

    def delivered(self, notice: Notice, now: float) -> None:
        """A notice has arrived."""
        self.failures = 0
        self.total += 1
        self.sent.pop(notice.key, None)
        self.sent[notice.key] = now
        while len(self.sent) > _MOST_KNOWN:
            del self.sent[min(self.sent, key=lambda key: self.sent[key])]

    def failed(self, now: float) -> float:
        """A delivery failed; returns the seconds until the next one."""
        self.failures += 1
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(20, self.failures - 1))
        self.retry_at = now + wait
        return wait


class Webhook(Service):
    """Owns the thread that posts."""

    # A name server or a TLS handshake may take as long as it likes: the thread holds nothing that others
    # need.
    max_silence = math.inf

    def __init__(
        self,
        url: str,
        notices: Callable[[], Iterable[Notice]],
        *,
        post: Post = post,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        """Post to ``url`` what ``notices`` returns; it reads published snapshots alone."""
        super().__init__("webhook")
        self._url = url
        self._notices = notices
        self._post = post
        self._now = now
        self._monotonic = monotonic
        self._look_seconds = look_seconds
        self._delivery = Delivery()
        self._trouble = ""
        self._guard = Guard(lambda what, text: None)

    @property
    def report(self) -> dict[str, Any]:
        """Where notices go (the host alone: the path may be a secret), how many went, and what is wrong."""
        return {"to": _host(self._url), "sent": self._delivery.total, "trouble": self._trouble or None}

    def run(self) -> None:
        """Look for notices until the stop; no failure ends the thread."""
        while not self.stopping.wait(self._look_seconds):
            self._guard.run("the webhook", self._look)

    def _look(self) -> None:
        for notice in self._delivery.due(self._notices(), self._monotonic()):
            if self.stopping.is_set():
                return
            try:
                self._post(self._url, self._body(notice))
            except (OSError, http.client.HTTPException, ValueError) as error:
                wait = self._delivery.failed(self._monotonic())
                text = f"cannot post to {_host(self._url)}: {_words(error)}"
                if text != self._trouble:
                    log.warning("webhook error=%r retry_seconds=%.0f", text, wait)
                self._trouble = text
                return
            self._delivery.delivered(notice, self._monotonic())
            self._trouble = ""
            log.info("webhook kind=%s text=%r", notice.kind, notice.text)

    def _body(self, notice: Notice) -> bytes:
        return msgspec.json.encode(
            {
                "v": 1,
                "from": "dance-ondevice",
                "host": socket.gethostname(),
                "at": self._now(),
                "kind": notice.kind,
                "text": notice.text,
                **notice.facts,
            }
        )


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _words(error: Exception) -> str:
    """An error without the address, which some libraries repeat."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__
