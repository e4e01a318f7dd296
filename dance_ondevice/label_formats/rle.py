"""Run-length codes of binary masks: COCO's plain and compressed ones, CVAT's, and Label Studio's brush.

The input of every decoder is untrusted: its memory is bounded by the size that the caller gives, and data
that does not fit that size is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "RleError",
    "decode_brush",
    "decode_columns",
    "decode_rows",
    "decompress",
]

Mask = NDArray[np.bool_]

_CHARACTER = 48  # "0": the first of the 64 characters that carry 6 bits each


class RleError(ValueError):
    """Error: a run-length code does not encode a mask of the given size."""


def decode_columns(counts: Sequence[int], size: tuple[int, int]) -> Mask:
    """Decode alternating lengths of background and object runs, down the columns (COCO).

    Args:
        counts: Lengths of the runs, background first; their sum is the number of pixels.
        size: Size (height, width) of the mask.

    Raises:
        RleError: The runs do not fill the mask.
    """
    flat: Mask = _fill(counts, size[0] * size[1], exact=True)
    return np.asarray(flat.reshape(size[1], size[0]).T, np.bool_)


def decode_rows(counts: Sequence[int], size: tuple[int, int]) -> Mask:
    """Decode alternating lengths of background and object runs, along the rows (CVAT).

    Pixels behind the last run are background.

    Raises:
        RleError: The runs have more pixels than the mask.
    """
    return _fill(counts, size[0] * size[1], exact=False).reshape(size)


def decompress(text: str) -> list[int]:
    """Decompress the runs in a compressed COCO string.

    Each number is written in groups of 5 bits, lowest first, a sixth bit saying that more follow; from the
    fourth on it is the difference to the number two before (COCO API, ``maskApi.c``: ``rleFrString``).

    Raises:
        RleError: A character is not one of the 64, or a number has no end.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - _CHARACTER
        if not 0 <= group < 64 or shift > 60:
            raise RleError(f"the compressed RLE holds {character!r}, or a number that does not end")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise RleError("the compressed RLE ends within a number")
    return counts


def decode_brush(data: Sequence[int], size: tuple[int, int]) -> Mask:
    """Decode a mask of Label Studio's brush: bits of packed RGBA values, of which alpha is the mask.

    A stream of bits: the number of values (32), the bits of a value less one (5), four lengths of counts less
    one (4 each); then blocks of a flag, which of the four lengths (2), a count less one, and either one value
    to repeat (flag set) or as many values (the "rle-pack" format of thi.ng).

    Args:
        data: Bytes as numbers from 0 to 255.
        size: Size (height, width) of the mask.

    Raises:
        RleError: The stream is not of that size, or ends too soon.
    """
    pixels = size[0] * size[1]
    try:
        bits = _Bits(bytes(data))
    except (ValueError, TypeError) as error:
        raise RleError(f"the brush's RLE is no list of bytes: {error}") from error
    values = bits.read(32)
    if values != 4 * pixels:
        raise RleError(f"the brush's RLE holds {values} values, {size[1]}x{size[0]} pixels are {4 * pixels}")
    width = bits.read(5) + 1
    lengths = [bits.read(4) + 1 for _ in range(4)]
    out = np.zeros(values, np.uint8)
    done = 0
    while done < values:
        repeated = bits.read(1)
        count = bits.read(lengths[bits.read(2)]) + 1
        if done + count > values:
            raise RleError("the brush's RLE holds more values than it says")
        if repeated:
            out[done : done + count] = bits.read(width) & 255
        else:
            out[done : done + count] = [bits.read(width) & 255 for _ in range(count)]
        done += count
    # Any alpha is drawn, as the editor takes it; tools that convert masks write 1, 100 or 255.
    return np.asarray(out[3::4] > 0).reshape(size)


class _Bits:
    """Reader of a byte string bit by bit, most significant first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def read(self, count: int) -> int:
        end = self._position + count
        if end > 8 * len(self._data):
            raise RleError("the brush's RLE ends too soon")
        first, last = self._position // 8, (end + 7) // 8
        window = int.from_bytes(self._data[first:last], "big")
        self._position = end
        return (window >> (8 * last - end)) & ((1 << count) - 1)


def _fill(counts: Sequence[int], pixels: int, *, exact: bool) -> Mask:
    given: Sequence[Any] = counts  # from a file
    # Programs that keep numbers in floating point write 10 as 10.0.
    runs = [int(run) if isinstance(run, float) and run.is_integer() else run for run in given]
    if any(not isinstance(run, int) or isinstance(run, bool) or run < 0 for run in runs):
        raise RleError("the RLE holds a run that is no whole number of pixels")
    total = sum(runs)
    if total > pixels or (exact and total != pixels):
        raise RleError(f"the RLE's runs are {total} pixels, the mask has {pixels}")
    flags = np.arange(len(runs)) % 2 == 1
    flat = np.zeros(pixels, np.bool_)
    flat[:total] = np.repeat(flags, np.asarray(runs, np.int64))
    return flat
