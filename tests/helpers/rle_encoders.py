"""What writes the run-length codes that ``dance_ondevice.label_formats.rle`` reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

_CHARACTER = 48  # "0": the first of the 64 characters that carry 6 bits each


def encode_columns(mask: Mask) -> list[int]:
    """The runs that ``decode_columns`` takes."""
    flat = np.ravel(mask, order="F")
    if flat.size == 0:
        return []
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return [*([0] if flat[0] else []), *(int(run) for run in runs)]


def compress(counts: Sequence[int]) -> str:
    """The string that ``decompress`` takes."""
    text: list[str] = []
    for index, count in enumerate(counts):
        value = count - (counts[index - 2] if index > 2 else 0)
        while True:
            group = value & 31
            value >>= 5
            # Done once what is left is nothing but the sign.
            more = value != (-1 if group & 16 else 0)
            text.append(chr(_CHARACTER + (group | 32 if more else group)))
            if not more:
                break
    return "".join(text)
