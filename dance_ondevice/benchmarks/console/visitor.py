"""People who watch: each does what the live page's script does, over HTTP."""

from __future__ import annotations

import http.client
import json
import threading
import time
from http.cookies import SimpleCookie
from types import TracebackType
from urllib.parse import urlsplit

__all__ = ["Visitor", "Watching"]

_SECONDS = 30.0
#: What the first page loads beside itself.
_PARTS = ('href="/', 'src="/')


class VisitFailed(RuntimeError):  # noqa: N818 - the name says what happened
    """Error: the console did not answer as it should."""


class Visitor:
    """A browser that has logged in, as far as it asks the console; for one thread."""

    def __init__(self, address: str) -> None:
        """Log in by the address that the console prints.

        Raises:
            VisitFailed: It does not let in.
            OSError: It does not answer.
        """
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port
        connection = self._connect()
        try:
            connection.request("GET", f"/?{parts.query}")
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        cookies = SimpleCookie(answer.getheader("Set-Cookie") or "")
        if answer.status not in (200, 303) or not cookies:
            raise VisitFailed(f"the console answered the login with status {answer.status}")
        self._cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())

    def get(self, path: str) -> tuple[bytes, http.client.HTTPMessage]:
        """A page or a part of one, on a connection of its own.

        Raises:
            VisitFailed: It answered with something else than success.
            OSError: It does not answer.
        """
        connection = self._connect()
        try:
            connection.request("GET", path, headers={"Cookie": self._cookie})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status not in (200, 204):
            raise VisitFailed(f"{path} answered with status {answer.status}")
        return body, answer.headers

    def first_page(self) -> float:
        """Seconds that the first page takes with all that it loads."""
        began = time.perf_counter()
        body, _ = self.get("/")
        text = body.decode()
        links = {
            text[start + len(mark) - 1 :].split('"', 1)[0] for mark in _PARTS for start in _places(text, mark)
        }
        for link in sorted(link for link in links if link.endswith((".css", ".js", ".svg"))):
            self.get(link)
        return time.perf_counter() - began

    def watch(self, stopping: threading.Event) -> None:
        """Follow the events, and get each frame with its mask, until asked to stop."""
        connection = self._connect()
        try:
            connection.request("GET", "/live/events", headers={"Cookie": self._cookie})
            answer = connection.getresponse()
            shown = ""
            while not stopping.is_set():
                line = answer.readline()
                if not line:
                    return
                if not line.startswith(b"data:"):
                    continue
                for camera in json.loads(line[5:]).get("cameras", []):
                    if camera["shown"] and camera["shown"] != shown:
                        shown = self._show(camera["name"])
        finally:
            connection.close()

    def _show(self, camera: str) -> str:
        _, headers = self.get(f"/live/{camera}/frame")
        shown = headers["X-Frame-Id"]
        self.get(f"/live/{camera}/{shown}/mask")
        return shown

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=_SECONDS)


class Watching:
    """So many people who watch at once, each on a thread of its own; a context manager."""

    def __init__(self, address: str, viewers: int) -> None:
        self._stopping = threading.Event()
        self._visitors = [Visitor(address) for _ in range(viewers)]
        self._failures: list[Exception] = []
        self._threads = [threading.Thread(target=self._run, args=(each,)) for each in self._visitors]

    def __enter__(self) -> Watching:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let them leave.

        Raises:
            VisitFailed: One of them was not served.
        """
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._failures and error is None:
            raise VisitFailed(f"somebody who watched was not served: {self._failures[0]}")

    def _run(self, visitor: Visitor) -> None:
        try:
            visitor.watch(self._stopping)
        except (OSError, VisitFailed, http.client.HTTPException, ValueError, KeyError) as failure:
            self._failures.append(failure)


def _places(text: str, mark: str) -> list[int]:
    found, start = [], text.find(mark)
    while start >= 0:
        found.append(start)
        start = text.find(mark, start + 1)
    return found
