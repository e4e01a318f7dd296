"""Who may use the console: a token to log in, a signed cookie after it, and a second secret for changes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable

__all__ = ["SESSION_SECONDS", "Attempts", "Sessions", "same"]

SESSION_SECONDS = 7 * 86_400
#: Wrong tokens within a minute, of one address and of all together.
_OF_ONE, _OF_ALL = 5, 60
_WINDOW = 60.0
_ADDRESSES = 1024


def same(given: str, expected: str) -> bool:
    """Whether two texts are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


class Sessions:
    """Makes and checks the cookies of one token; nothing is stored, and a new token ends them all."""

    def __init__(self, token: str, *, now: Callable[[], float] = time.time) -> None:
        self.token = token
        self._key = hashlib.blake2b(token.encode(), person=b"console-session").digest()
        #: What the cookie is called. Browsers keep cookies by host, whatever the port: by one name, the
        #: consoles of two boards behind tunnels to one machine would log each other out.
        self.cookie = f"dance_console_{self._sign('name', '')[:8]}"
        self._now = now

    def begin(self) -> str:
        """A new session's cookie."""
        head = f"{int(self._now()) + SESSION_SECONDS}.{secrets.token_urlsafe(16)}"
        return f"{head}.{self._sign('session', head)}"

    def valid(self, cookie: str) -> bool:
        """Whether a cookie was made here and has not expired."""
        head, _, signature = cookie.rpartition(".")
        until, _, _ = head.partition(".")
        if not same(signature, self._sign("session", head)):
            return False
        return until.isdecimal() and int(until) > self._now()

    def csrf(self, cookie: str) -> str:
        """The secret that a change must bring along: another site cannot read it from the page."""
        return self._sign("csrf", cookie)

    def _sign(self, purpose: str, text: str) -> str:
        message = f"{purpose}:{text}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(message, key=self._key, digest_size=24).hexdigest()


class Attempts:
    """Counts wrong tokens and says when there were too many."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque()

    def wait(self, address: str) -> int:
        """Seconds until an address may try again; 0 for now."""
        now = self._monotonic()
        waits = [
            failed[0] + _WINDOW - now
            for failed, most in ((self._failed.get(address, deque()), _OF_ONE), (self._all, _OF_ALL))
            if len(self._recent(failed, now)) >= most
        ]
        return max((int(wait) + 1 for wait in waits), default=0)

    def failed(self, address: str) -> None:
        """Count a wrong token."""
        now = self._monotonic()
        self._failed.setdefault(address, deque()).append(now)
        self._failed.move_to_end(address)
        self._all.append(now)
        if len(self._failed) > _ADDRESSES:
            self._failed.popitem(last=False)

    @staticmethod
    def _recent(failed: deque[float], now: float) -> deque[float]:
        while failed and now - failed[0] >= _WINDOW:
            failed.popleft()
        return failed
