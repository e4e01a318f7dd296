"""Cache of decoded images and labels in memory, with a limit in bytes.

A training uses every image once in each epoch. Decoding costs a fifth of a step on small windows, the label's
PNG more than the JPEG. The first entries stay: with a new order in every epoch any other rule would evict
entries that are needed next.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEFAULT_BYTES", "Decoded"]

#: About 90 images of 480x360 with their labels, at full size.
DEFAULT_BYTES = 64 * 1024 * 1024


class Decoded:
    """Cache of arrays by key, up to a number of bytes, for trainings that share their images."""

    def __init__(self, most_bytes: int = DEFAULT_BYTES) -> None:
        """Begin empty.

        Args:
            most_bytes: Limit in bytes; 0 keeps nothing.

        Raises:
            ValueError: The limit is negative.
        """
        if most_bytes < 0:
            raise ValueError(f"most_bytes is {most_bytes}; give 0 or more")
        self._most = most_bytes
        self._kept: dict[Hashable, NDArray[np.uint8]] = {}
        self.bytes = 0

    def get(self, key: Hashable, decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the read-only array of a key, decoded if it is not in the cache.

        Raises:
            Whatever ``decode`` raises; nothing is kept then.
        """
        found = self._kept.get(key)
        if found is None:
            found = decode()
            if self.bytes + found.nbytes <= self._most:
                found.flags.writeable = False
                self._kept[key] = found
                self.bytes += found.nbytes
        return found
