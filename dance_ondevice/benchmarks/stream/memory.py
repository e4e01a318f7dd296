"""Peak memory of this process."""

from __future__ import annotations

import resource

__all__ = ["peak_bytes"]


def peak_bytes() -> int:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
