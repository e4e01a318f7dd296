"""Images as encoders write them, and headers that say what a test wants."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

SIZES = [(1, 1), (3, 5), (8, 8), (17, 33), (48, 64), (121, 161)]
ENCODINGS = {
    "jpeg": (".jpg", []),
    "jpeg progressive": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "jpeg with restarts": (".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
    "png": (".png", []),
    "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
    "webp lossless": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
}
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS)


def scene(h: int, w: int) -> np.ndarray:
    """A smooth (h, w, 3) image, so that lossy codecs come close."""
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([x * 200 // w + 20, y * 200 // h + 30, (x + y) * 100 // (w + h) + 60], -1).astype(
        np.uint8
    )


def encoded(encoding: str, image: np.ndarray) -> bytes:
    extension, parameters = ENCODINGS[encoding]
    return cv2.imencode(extension, image, parameters)[1].tobytes()


def png_header(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def jpeg_header(width: int, height: int, *, before: bytes = b"", marker: int = 0xC0) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + before + struct.pack(">BBH", 0xFF, marker, len(frame) + 2) + frame
