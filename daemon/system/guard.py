"""Runs work whose failure must not end its thread."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["Guard"]

log = logging.getLogger(__name__)


class Guard:
    """Runs pieces of work on one thread and catches their exceptions.

    A failure is logged with its traceback once, and again only after it has changed or gone, so that work
    which is tried every few seconds does not fill the log.
    """

    def __init__(self, failed: Callable[[str, str], None]) -> None:
        """``failed`` receives the name and the error of work that has no ``failed`` of its own."""
        self._failed = failed
        self._failing: dict[str, str] = {}

    def run(self, what: str, act: Callable[[], object], failed: Callable[[str], None] | None = None) -> None:
        """Do a piece of work.

        Args:
            what: Name of the work, for the log.
            act: The work.
            failed: Receives the error as text.
        """
        try:
            act()
        except Exception as error:  # any exception: catching it is the purpose of this class
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
