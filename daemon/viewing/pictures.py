"""Images and masks in the sizes and forms in which a browser takes them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.daemon.ingest.mailbox import PendingFrame
from dance_ondevice.images.codec import decode_colour, encode_jpeg, resize_area
from dance_ondevice.images.headers import ImageError, probe, without_exif

__all__ = ["Picture", "fit", "mask_size", "of_file", "of_frame", "pack", "shrink", "unpack"]

#: A JPEG of at most so many bytes and pixels a side goes out as it is, at no cost in time.
_PLAIN_BYTES = 300_000
_QUALITY = 82
#: A label of more pixels is corrected at a reduced size, so that a telephone answers a tap at once.
_LABEL_PIXELS = 800_000


@dataclass(frozen=True)
class Picture:
    """An encoded image and its media type."""

    data: bytes
    kind: str


def of_frame(frame: PendingFrame, longest: int) -> Picture:
    """A frame for a browser, at most ``longest`` pixels on its longer side.

    Raises:
        ImageError: It cannot be decoded.
    """
    if frame.raw_shape is not None:
        raw = np.frombuffer(frame.data, np.uint8).reshape(frame.raw_shape)
        return Picture(encode_jpeg(fit(raw, longest), _QUALITY), "image/jpeg")
    return _encoded(frame.data, longest)


def of_file(path: Path, longest: int) -> Picture:
    """A stored image for a browser, at most ``longest`` pixels on its longer side.

    Raises:
        OSError: It cannot be read.
        ImageError: It cannot be decoded.
    """
    return _encoded(path.read_bytes(), longest)


def _encoded(data: bytes, longest: int) -> Picture:
    info = probe(data)
    longer = max(info.width, info.height)
    if info.format == "jpeg" and longer <= longest and len(data) <= _PLAIN_BYTES:
        # A browser would rotate an image by its EXIF data, and the mask would not fit it any more.
        return Picture(without_exif(data), "image/jpeg")
    reduce = next((step for step in (8, 4, 2) if longer >= step * longest), 1)
    return Picture(encode_jpeg(fit(decode_colour(data, reduce), longest), _QUALITY), "image/jpeg")


def fit(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """An image (h, w) or (h, w, 3), reduced so that its longer side has at most ``longest`` pixels."""
    return resize_area(image, min(1.0, longest / max(image.shape[:2])))


def mask_size(height: int, width: int) -> tuple[int, int]:
    """The (height, width) at which a label of a native size is corrected."""
    factor = min(1.0, (_LABEL_PIXELS / (height * width)) ** 0.5)
    return max(1, round(height * factor)), max(1, round(width * factor))


def shrink(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask at another (height, width), by nearest neighbour; it may grow as well."""
    if mask.shape == size:
        return mask
    rows = (np.arange(size[0]) * mask.shape[0]) // size[0]
    columns = (np.arange(size[1]) * mask.shape[1]) // size[1]
    return np.ascontiguousarray(mask[rows[:, None], columns])


def pack(mask: NDArray[np.uint8]) -> bytes:
    """The ids of a mask row by row, in zlib's format, which browsers unpack themselves."""
    return zlib.compress(np.ascontiguousarray(mask).tobytes(), 1)


def unpack(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask (H, W) from what ``pack`` makes; never allocates more than its size.

    Raises:
        ImageError: It is damaged, or of another size.
    """
    wanted = size[0] * size[1]
    unpacker = zlib.decompressobj()
    try:
        ids = unpacker.decompress(data, wanted + 1)
    except zlib.error as error:
        raise ImageError(f"the label cannot be unpacked: {error}") from error
    if len(ids) != wanted:
        raise ImageError(f"the label must hold {wanted} pixels ({size[1]}x{size[0]})")
    return np.frombuffer(ids, np.uint8).reshape(size)
