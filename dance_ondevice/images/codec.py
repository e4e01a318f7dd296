"""Encoded images: decoding, encoding and scaling them.

Only this module calls ``cv2.imdecode`` and ``cv2.imencode``; JPEGs go through ``images.turbo`` first. The
bytes come from the network, so a header is parsed (``images.headers``) before anything is allocated, and the
only error that bad bytes cause is an ``ImageError``. OpenCV is imported on use, because its own pixel limit
(:func:`limit_pixels`) is read at its first import.
"""

from __future__ import annotations

import os
import sys
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images import turbo
from dance_ondevice.images.headers import (
    ImageError,
    ImageInfo,
    as_bytes,
    check_complete,
    in_one_scan,
    probe,
)

__all__ = [
    "decode_colour",
    "decode_grey",
    "decode_label",
    "decode_unchanged",
    "encode_jpeg",
    "encode_label",
    "encode_png",
    "limit_pixels",
    "resize_area",
    "resize_to",
]

_LIMIT_VARIABLE = "OPENCV_IO_MAX_IMAGE_PIXELS"
_OPENCV_DEFAULT_LIMIT = 1 << 30


def limit_pixels(max_pixels: int) -> None:
    """Set the most pixels that OpenCV agrees to decode, for this process and its children.

    Raises:
        RuntimeError: OpenCV is already imported and has read another limit.
        ValueError: ``max_pixels`` is below 1.
    """
    if max_pixels < 1:
        raise ValueError(f"max_pixels is {max_pixels}, it must be at least 1")
    if "cv2" in sys.modules and os.environ.get(_LIMIT_VARIABLE) != str(max_pixels):
        raise RuntimeError(
            f"OpenCV is already imported with {_LIMIT_VARIABLE}={os.environ.get(_LIMIT_VARIABLE, 'unset')}; "
            f"call limit_pixels({max_pixels}) before anything imports cv2"
        )
    os.environ[_LIMIT_VARIABLE] = str(max_pixels)


def decode_grey(
    data: bytes | memoryview, reduce: int = 1, info: ImageInfo | None = None
) -> NDArray[np.uint8]:
    """Decode to luma, optionally at a fraction of the size (for JPEG at a fraction of the time as well).

    Args:
        data: an encoded image.
        reduce: 1, 2, 4 or 8.
        info: its header, where the image was found small enough before.

    Returns:
        (ceil(height / reduce), ceil(width / reduce)) uint8.

    Raises:
        ImageError: undecodable, truncated, or more pixels than the limit.
    """
    return _decode(data, reduce, info, grey=True)


def decode_colour(
    data: bytes | memoryview, reduce: int = 1, info: ImageInfo | None = None
) -> NDArray[np.uint8]:
    """Decode to BGR; alpha is dropped, 16 bits become 8.

    Args:
        data: an encoded image.
        reduce: 1, 2, 4 or 8.
        info: its header, where the image was found small enough before.

    Returns:
        (ceil(height / reduce), ceil(width / reduce), 3) uint8.

    Raises:
        ImageError: undecodable, truncated, or more pixels than the limit.
    """
    return _decode(data, reduce, info, grey=False)


def decode_label(data: bytes | memoryview) -> NDArray[np.uint8]:
    """Decode a label mask: the ids exactly as written.

    Returns:
        (height, width) uint8.

    Raises:
        ImageError: anything but a complete 8-bit grey PNG within the pixel limit.
    """
    data = as_bytes(data)
    info = probe(data)
    if info.format != "png" or info.channels != 1 or info.bit_depth != 8:
        raise ImageError(
            "a label is an 8-bit single-channel PNG (no palette), found "
            f"{info.format} with {info.channels} channels of {info.bit_depth} bits"
        )
    return _decode(data, 1, None, grey=True)


def decode_unchanged(data: bytes | memoryview) -> NDArray[np.uint8]:
    """Decode an 8-bit PNG with the channels that it has; a palette becomes colours.

    Returns:
        (height, width) grey, (height, width, 3) BGR or (height, width, 4) BGRA uint8. Grey with alpha becomes
        BGRA.

    Raises:
        ImageError: anything but a complete PNG of at most 8 bits within the pixel limit.
    """
    import cv2

    data = as_bytes(data)
    info = probe(data)
    if info.format != "png" or info.bit_depth > 8:
        raise ImageError(f"the image must be a PNG of 8 bits, found a {info.format} of {info.bit_depth} bits")
    _check_pixels(info)
    check_complete(data, info)
    try:
        decoded = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as error:
        raise ImageError(f"the png cannot be decoded: {error.err or error}") from error
    if decoded is None or decoded.dtype != np.uint8 or decoded.shape[:2] != (info.height, info.width):
        raise ImageError(f"the png is damaged and cannot be decoded ({len(data)} bytes)")
    return cast("NDArray[np.uint8]", decoded)


def encode_jpeg(bgr: NDArray[np.uint8], quality: int = 95) -> bytes:
    """Encode (h, w, 3) BGR or (h, w) grey as JPEG.

    Raises:
        ImageError: The array is not of uint8, or OpenCV refuses it (wrong shape, a side over 65500 pixels).
    """
    import cv2

    return _encode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(array: NDArray[np.uint8]) -> bytes:
    """Encode (h, w) grey, (h, w, 3) BGR or (h, w, 4) BGRA losslessly as PNG.

    Raises:
        ImageError: The array is not of uint8, or OpenCV refuses it.
    """
    return _encode(".png", array, [])


def encode_label(ids: NDArray[np.uint8]) -> bytes:
    """Encode class ids (h, w) losslessly as PNG, in about half the bytes that ``encode_png`` makes.

    Raises:
        ImageError: OpenCV refuses the array.
    """
    import cv2

    # Rows of a mask mostly equal those above them. OpenCV takes this filter from 4.12 on; before, its own.
    above = getattr(cv2, "IMWRITE_PNG_FILTER_UP", None)
    return _encode(".png", ids, [] if above is None else [cv2.IMWRITE_PNG_FILTER, above])


def resize_area(bgr: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Scale an image by area averaging.

    Args:
        bgr: (h, w) or (h, w, 3) uint8.
        scale: factor for both sides, above 0.

    Returns:
        round(h * scale) by round(w * scale), each at least 1; the array itself when that is its size.
    """
    import cv2

    if scale <= 0:
        raise ValueError(f"scale is {scale}, it must be above 0")
    h, w = bgr.shape[:2]
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    if size == (w, h):
        return bgr
    return cast("NDArray[np.uint8]", cv2.resize(bgr, size, interpolation=cv2.INTER_AREA))


def resize_to(bgr: NDArray[np.uint8], size: tuple[int, int], *, sharp: bool = False) -> NDArray[np.uint8]:
    """Resize an image (h, w) or (h, w, 3) uint8 to exactly (height, width).

    Args:
        bgr: The image.
        size: (height, width) of the result.
        sharp: Keep edges steep above one half of the size, as for inference; it takes no more time.
    """
    import cv2

    if bgr.shape[:2] == size:
        return bgr
    # Above one half, linear interpolation weighs the neighbours of a new pixel nearly as area averaging does,
    # which takes five times as long there. An image that was decoded reduced is always above one half.
    linear = 2 * size[0] > bgr.shape[0] and 2 * size[1] > bgr.shape[1]
    above = cv2.INTER_CUBIC if sharp else cv2.INTER_LINEAR
    how = above if linear else cv2.INTER_AREA
    return cast("NDArray[np.uint8]", cv2.resize(bgr, size[::-1], interpolation=how))


def _decode(
    data: bytes | memoryview, reduce: int, info: ImageInfo | None, *, grey: bool
) -> NDArray[np.uint8]:
    import cv2

    if reduce not in (1, 2, 4, 8):
        raise ValueError(f"reduce is {reduce}, allowed are 1, 2, 4 and 8")
    data = as_bytes(data)
    if info is None:
        info = probe(data)
        _check_pixels(info)
    size = (-(-info.height // reduce), -(-info.width // reduce))
    quick = _decode_quickly(data, size, info, grey=grey)
    if quick is not None:
        return quick
    # Only libjpeg decodes straight to a smaller size; elsewhere OpenCV resizes, and rounds a side down to 0.
    in_decoder = reduce if info.format == "jpeg" else 1
    flags = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    if in_decoder > 1:
        flags = {
            2: (cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
            4: (cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
            8: (cv2.IMREAD_REDUCED_COLOR_8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
        }[in_decoder][grey]
    try:
        # Labels and declared sizes ignore EXIF, so an image rotated by EXIF would not fit them.
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError(f"the {info.format} cannot be decoded: {error.err or error}") from error
    if decoded is None:
        raise ImageError(f"the {info.format} is damaged and cannot be decoded ({len(data)} bytes)")
    if reduce > in_decoder:
        decoded = cv2.resize(decoded, size[::-1], interpolation=cv2.INTER_AREA)
    if decoded.shape != (size if grey else (*size, 3)) or decoded.dtype != np.uint8:
        raise ImageError(
            f"the {info.format} declares {info.width}x{info.height} pixels but decodes to {decoded.shape}"
        )
    return cast("NDArray[np.uint8]", decoded)


def _decode_quickly(
    data: bytes | memoryview, size: tuple[int, int], info: ImageInfo, *, grey: bool
) -> NDArray[np.uint8] | None:
    """Decode a usual JPEG; None for an image that is complete and has to be decoded otherwise.

    Raises:
        ImageError: truncated.
    """
    if info.format == "jpeg" and in_one_scan(data, info):
        # A decode without a warning says as much as a look for the end, which would take a twentieth of it.
        quick = turbo.decode(data, size, grey=grey)
        if quick is not None:
            return quick
        check_complete(data, info)
        return None
    check_complete(data, info)
    return turbo.decode(data, size, grey=grey) if info.format == "jpeg" else None


def _check_pixels(info: ImageInfo) -> None:
    limit = _pixel_limit()
    if info.width * info.height > limit:
        # OpenCV checks the reduced size only, though libjpeg may hold the whole image's coefficients.
        raise ImageError(
            f"the image declares {info.width}x{info.height} pixels, the limit is {limit} in total"
        )


def _pixel_limit() -> int:
    text = os.environ.get(_LIMIT_VARIABLE, "")
    # OpenCV also reads forms such as "64MB"; those are left to it.
    return int(text) if text.isdecimal() else _OPENCV_DEFAULT_LIMIT


def _encode(extension: str, array: NDArray[np.uint8], parameters: list[int]) -> bytes:
    import cv2

    if array.dtype != np.uint8:  # OpenCV would cut fractions off, and write 16 bits as white
        raise ImageError(
            f"cannot encode {array.shape} {array.dtype} as {extension}: convert it to uint8 from 0 to 255"
        )
    try:
        done, encoded = cv2.imencode(extension, array, parameters)
    except cv2.error as error:
        raise ImageError(
            f"cannot encode {array.shape} {array.dtype} as {extension}: {error.err or error}"
        ) from error
    if not done:
        raise ImageError(f"cannot encode {array.shape} {array.dtype} as {extension}")
    return encoded.tobytes()
