"""Work whose failure must not end the thread that does it."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["Guard"]

log = logging.getLogger(__name__)


class Guard:
    """Does pieces of work on one thread and survives whatever goes wrong in them.

    A failure is logged with its traceback once, and again only after it has changed or gone: work that is
    tried every few seconds does not fill the log.
    """

    def __init__(self, failed: Callable[[str, str], None]) -> None:
        """``failed`` receives what was done and what went wrong, where a piece of work has no such call."""
        self._failed = failed
        self._failing: dict[str, str] = {}

    def run(self, what: str, act: Callable[[], object], failed: Callable[[str], None] | None = None) -> None:
        """Do a piece of work.

        Args:
            what: Names it, for the log.
            act: Does it.
            failed: Receives what went wrong, in words.
        """
        try:
            act()
        except Exception as error:  # this is what the class is for: any failure is reported and survived
            text = f"{type(error).__name__}: {error}"
            if self._failing.get(what) != text:
                log.exception("failed what=%r", what)
            self._failing[what] = text
            if failed is None:
                self._failed(what, text)
            else:
                failed(text)
        else:
            self._failing.pop(what, None)
