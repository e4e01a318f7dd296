"""Limits repeated warnings in the log: they are written at intervals, with the number of omitted lines."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["RepeatLimit"]

#: Number of lines of one kind that are written at once, and seconds after which another one is.
BURST = 20
SECONDS = 60.0
#: Number of kinds that are remembered; the one that is oldest by its last line is forgotten first.
_KINDS = 1024


@dataclass
class _Kind:
    allowance: float
    at: float
    left_out: int = 0


class RepeatLimit(logging.Filter):
    """Limits the warnings and errors of each line of code to a burst of lines, then one a minute.

    The next line that is written ends with ``repeated=N``, the number of omitted lines.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._kinds: OrderedDict[tuple[str, int, str], _Kind] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; called by a handler, which holds its lock."""
        if record.levelno < logging.WARNING:
            return True  # lines below warnings report things that were done
        now = self._monotonic()
        key = record.name, record.lineno, str(record.msg)[:200]
        kind = self._kinds.pop(key, None) or _Kind(BURST, now)
        self._kinds[key] = kind
        if len(self._kinds) > _KINDS:
            self._kinds.popitem(last=False)
        kind.allowance = min(BURST, kind.allowance + max(0.0, now - kind.at) / SECONDS)
        kind.at = now
        if kind.allowance < 1.0:
            kind.left_out += 1
            return False
        kind.allowance -= 1.0
        if kind.left_out:
            record.msg = f"{record.msg!s} repeated={kind.left_out}"
            kind.left_out = 0
        return True
