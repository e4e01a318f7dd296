"""Images without what has programs turn them, and with every pixel."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from dance_ondevice.images.codec import decode_colour, encode_jpeg, encode_png
from dance_ondevice.images.headers import ImageError, orientation, without_exif

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
#: EXIF with one entry: orientation 6, a quarter turn.
TIFF = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def seen(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("before", [b"", segment(0xE2, b"ICC_PROFILE\0kept")])
def test_a_jpegs_orientation_goes_and_nothing_else(before: bytes) -> None:
    plain = encode_jpeg(PICTURE)
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'/>")
    turned = plain[:2] + before + segment(0xE1, b"Exif\0\0" + TIFF) + xmp + plain[2:]
    assert seen(turned).shape == (20, 12, 3), "the input must be one that is turned"
    assert without_exif(turned) == plain[:2] + before + plain[2:]
    assert without_exif(plain) == plain
    assert [orientation(each) for each in (turned, plain, encode_png(PICTURE))] == [6, 1, 1]
    cut = plain[:2] + segment(0xE1, b"Exif\0\0" + TIFF[:15]) + plain[2:]
    assert orientation(cut) == 1


def test_a_pngs_orientation_goes_and_nothing_else() -> None:
    plain = encode_png(PICTURE)
    head, rest, title = plain[:33], plain[33:], chunk(b"tEXt", b"Title\0kept")
    turned = head + chunk(b"eXIf", TIFF) + title + rest
    bare = without_exif(turned)
    assert bare == head + title + rest
    np.testing.assert_array_equal(seen(bare), decode_colour(turned))


def test_a_damaged_image_is_an_error() -> None:
    with pytest.raises(ImageError):
        without_exif(encode_jpeg(PICTURE)[:30])
