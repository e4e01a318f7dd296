"""Warnings that come again and again are written now and then, with how many were left out."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["RepeatLimit"]

#: Lines of one kind that are written at once, and seconds after which one more is.
BURST = 20
SECONDS = 60.0
#: Kinds that are remembered; those that came least lately are forgotten.
_KINDS = 1024


@dataclass
class _Kind:
    allowance: float
    at: float
    left_out: int = 0


class RepeatLimit(logging.Filter):
    """Bounds the warnings and errors of each place in the code: a burst of lines, then one a minute.

    The line that is written next says ``repeated=N``, how many like it were left out.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._kinds: OrderedDict[tuple[str, int, str], _Kind] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; called by a handler, which holds its lock."""
        if record.levelno < logging.WARNING:
            return True  # each tells of something that was done
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
