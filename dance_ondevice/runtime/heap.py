"""Settings of the C library's heap, so that freed memory returns to the system. They work with glibc only."""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["few_arenas", "trim"]

#: ``M_ARENA_MAX`` of malloc.h.
_ARENA_MAX = -8
_ARENAS = 2


def few_arenas() -> None:
    """Limit the number of arenas that threads share; call it before any thread starts.

    By default there are eight for each core, and memory that was freed in one is not available to the others.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _ARENAS)


def trim() -> None:
    """Return freed memory to the system, for example after loading a model or estimating statistics."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
