"""Settings of the C library's heap: whether freed memory returns to the system. They work with glibc only."""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["few_arenas", "keep_freed", "trim"]

#: ``M_ARENA_MAX`` of malloc.h.
_ARENA_MAX = -8
_ARENAS = 2
#: ``M_TRIM_THRESHOLD`` and ``M_MMAP_MAX``.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
#: How much free memory at its end the heap keeps.
_KEPT_BYTES = 256 << 20


def few_arenas() -> None:
    """Limit the number of arenas that threads share; call it before any thread starts.

    By default there are eight for each core, and memory that was freed in one is not available to the others.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _ARENAS)


def keep_freed() -> None:
    """Keep freed memory in the heap, for a process that computes with torch and then ends.

    A step of training frees and asks for the same tensors again and again. Each that comes from the system
    anew is cleared by it, page by page: up to an eighth of the step's CPU time.
    """
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def trim() -> None:
    """Return freed memory to the system, for example after loading a model or estimating statistics."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
