"""The C library's heap: how much of what was freed stays with the process. glibc alone can be told."""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["few_arenas", "trim"]

#: ``M_ARENA_MAX`` of malloc.h.
_ARENA_MAX = -8
_ARENAS = 2


def few_arenas() -> None:
    """Let threads share few arenas, before any of them starts.

    By default there are eight for each core, and what was freed in one is no use to the others.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _ARENAS)


def trim() -> None:
    """Give back to the system what loading or estimating took and serving does not need."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
