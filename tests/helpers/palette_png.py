"""PNGs whose pixels are indices into a palette."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def palette_png(mask: NDArray[np.uint8], colours: Iterable[tuple[int, int, int]], bits: int = 8) -> bytes:
    """A palette PNG, which OpenCV does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = mask.shape
    spread = np.unpackbits(mask[..., None], axis=2)[..., 8 - bits :].reshape(height, width * bits)
    lines = b"".join(b"\0" + np.packbits(line).tobytes() for line in spread)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, 0)),
            chunk(b"PLTE", bytes(value for colour in colours for value in colour)),
            chunk(b"IDAT", zlib.compress(lines)),
            chunk(b"IEND", b""),
        ]
    )
