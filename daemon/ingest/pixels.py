"""Checks and measures a frame's image when it arrives, and encodes it if it is kept.

Dimensions come from the file's header before anything is decoded. The score comes from a reduced grey image;
that is decoded alone, or made from a decode in colour that store and inference then use as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.complexity import grey_reduction
from dance_ondevice.daemon.ingest.mailbox import PendingFrame
from dance_ondevice.daemon.wire.messages import Buffer, Encoding, WireError
from dance_ondevice.images import codec as images
from dance_ondevice.images import headers as image_headers
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import IGNORE, LabelError, check_label
from dance_ondevice.policies.stream.decoding import Decoding, reduction

#: JPEG quality of stored images that are re-encoded: raw and WebP frames, and all below scale 1.
JPEG_QUALITY = 95
#: Pixels of the largest decoded image that is kept for later steps; of a larger one memory counts for more.
_MOST_SHARED = 1 << 21


@dataclass(frozen=True, kw_only=True)
class CheckedLabel:
    """A label that fits its image: the PNG as it came and the class ids in it, without 255 (ignore)."""

    png: bytes
    classes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CheckedFrame:
    """A frame that passed all checks.

    Attributes:
        image: The encoded image as it came, or BGR pixels in C order.
        info: The image's header; None for raw pixels.
        height: Height in pixels.
        width: Width in pixels.
        grey: (h, w) uint8 luma for the indicator, reduced by ``grey_reduction``.
        colour: (h, w, 3) uint8 BGR, reduced by ``reduce``; None where only luma was decoded.
        label: The label that came with it.
    """

    image: bytes
    info: image_headers.ImageInfo | None
    height: int
    width: int
    grey: NDArray[np.uint8]
    label: CheckedLabel | None = None
    colour: NDArray[np.uint8] | None = None
    reduce: int = 1


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """An image file as it is stored; ``pixels`` are its BGR (height, width, 3), if they were at hand."""

    data: bytes
    format: Literal["jpg", "png"]
    width: int
    height: int
    pixels: NDArray[np.uint8] | None = None


def check_frame(
    image: Buffer,
    *,
    encoding: Encoding | None,
    shape: tuple[int, ...] | None,
    label: Buffer | None,
    max_pixels: int,
    n_classes: int,
    info: image_headers.ImageInfo | None = None,
    decoding: Callable[[int], Decoding] = lambda reduce: Decoding(colour=False, reduce=reduce),
) -> CheckedFrame:
    """Check a frame and its label.

    Args:
        image: An encoded image, or uint8 pixels when ``shape`` is given, and then exactly as many.
        encoding: The format that the sender claims; None to accept any known one.
        shape: (h, w), or (h, w, c) with 1, 3 or 4 channels, of raw pixels; the fourth is not used.
        label: An encoded label.
        max_pixels: The most pixels that are decoded.
        n_classes: Number of the model's classes.
        info: The image's header, if it was read before.
        decoding: Chooses how to decode an encoded image, from the reduction of the grey one.

    Raises:
        WireError: The image or the label cannot be used.
    """
    colour, reduce = None, 1
    if shape is not None:
        info = None
        height, width = shape[0], shape[1]
        bgr = _raw_bgr(image, shape)
        grey = _raw_grey(bgr)
        data = bgr.tobytes()
    else:
        try:
            info = info or image_headers.probe(image)
            width, height = info.width, info.height
            _check_pixels(info, max_pixels)
            if encoding is not None and encoding != info.format:
                raise WireError("encoding", f"the header says {encoding}, the image is {info.format}")
            measured = grey_reduction(height, width)
            wanted = decoding(measured)
            if wanted.colour and width * height <= _MOST_SHARED * wanted.reduce**2:
                colour, reduce = images.decode_colour(image, wanted.reduce, info), wanted.reduce
                grey = _grey_of(colour, (-(-height // measured), -(-width // measured)))
            else:
                grey = images.decode_grey(image, measured, info)
        except ImageError as error:
            raise WireError("image", f"the image cannot be used: {error}") from error
        data = bytes(image)
    checked = (
        None
        if label is None
        else check_label_png(label, size=(height, width), max_pixels=max_pixels, n_classes=n_classes)
    )
    return CheckedFrame(
        image=data,
        info=info,
        height=height,
        width=width,
        grey=grey,
        label=checked,
        colour=colour,
        reduce=reduce,
    )


def check_label_png(
    label: Buffer, *, size: tuple[int, int] | None, max_pixels: int, n_classes: int
) -> CheckedLabel:
    """Check that a label is an 8-bit grey PNG with ids of known classes.

    Args:
        label: The PNG.
        size: (height, width) of its image; None when only the store knows it.
        max_pixels: The most pixels that are decoded.
        n_classes: Number of the model's classes.

    Raises:
        WireError: The label cannot be used.
    """
    try:
        info = image_headers.probe(label)
        if size is not None and (info.height, info.width) != size:
            raise WireError(
                "label_size",
                f"the label is {info.width}x{info.height} pixels, its image is {size[1]}x{size[0]}",
            )
        _check_pixels(info, max_pixels)
        ids = images.decode_label(label)
        check_label(ids, n_classes)
    except ImageError as error:
        raise WireError("label", f"the label cannot be used: {error}") from error
    except LabelError as error:
        raise WireError("label_ids", str(error)) from error
    present = np.flatnonzero(np.bincount(ids.ravel(), minlength=IGNORE + 1)[:IGNORE])
    return CheckedLabel(png=bytes(label), classes=tuple(int(i) for i in present))


def one_thread_an_image() -> None:
    """Keep OpenCV from splitting one image over threads, which costs time when several images are in work."""
    import cv2

    cv2.setNumThreads(1)


def read_header(image: Buffer) -> image_headers.ImageInfo | None:
    """The header of an encoded image; None for what is no image, which its check reports with a reason."""
    try:
        return image_headers.probe(image)
    except ImageError:
        return None


def stored_as_it_came(frame: CheckedFrame, scale: float) -> bool:
    """Whether the file to store is the one that came, so that nothing has to be encoded."""
    unchanged = round(frame.height * scale) == frame.height and round(frame.width * scale) == frame.width
    return unchanged and frame.info is not None and frame.info.format != "webp"


def encode_for_store(frame: CheckedFrame, scale: float) -> StoredImage:
    """Encode the file to store: at scale 1 a JPEG or PNG as it came, else a JPEG of the new size.

    Raises:
        WireError: The colours cannot be decoded, or a side is too long for JPEG.
    """
    target = (max(1, round(frame.height * scale)), max(1, round(frame.width * scale)))
    if frame.info is not None and stored_as_it_came(frame, scale):
        return StoredImage(
            data=frame.image,
            format="jpg" if frame.info.format == "jpeg" else "png",
            width=frame.width,
            height=frame.height,
        )
    try:
        if frame.info is None:
            bgr = _raw_bgr(frame.image, (frame.height, frame.width, 3))
        elif frame.colour is not None and frame.reduce * scale <= 1:
            bgr = frame.colour
        else:
            # Decoding to the next larger eighth, quarter or half saves most of the time of a full decode.
            bgr = images.decode_colour(frame.image, reduction(scale), frame.info)
        pixels = images.resize_to(bgr, target)
        data = images.encode_jpeg(pixels, JPEG_QUALITY)
    except ImageError as error:
        raise WireError("image", f"the image cannot be used: {error}") from error
    return StoredImage(data=data, format="jpg", width=target[1], height=target[0], pixels=pixels)


def decode_again(frame: PendingFrame) -> NDArray[np.uint8]:
    """Decode an encoded frame for its scale, if its pixels are not at hand any more.

    Raises:
        ImageError: Its colours cannot be decoded.
    """
    return images.decode_colour(frame.data, reduction(frame.scale), frame.info)


def _check_pixels(info: image_headers.ImageInfo, max_pixels: int) -> None:
    if info.width * info.height > max_pixels:
        raise WireError(
            "pixels",
            f"the image is {info.width}x{info.height} pixels, allowed are {max_pixels} in total "
            "(ingest.max_pixels)",
        )


def _raw_bgr(pixels: Buffer, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    array = np.frombuffer(pixels, np.uint8).reshape(shape[0], shape[1], -1)
    return np.broadcast_to(array[..., :3], (shape[0], shape[1], 3))


def _raw_grey(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # Imported on use, as in images: OpenCV reads its pixel limit at its first import.
    import cv2

    grey = cast("NDArray[np.uint8]", cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))
    return images.resize_area(grey, 1 / grey_reduction(bgr.shape[0], bgr.shape[1]))


def _grey_of(bgr: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The luma (height, width) of colours: what a grey decode of that size gives, to a level or two."""
    import cv2

    # The smaller image is converted: averages and luma are both linear.
    if bgr.shape[:2] != size:
        bgr = cast("NDArray[np.uint8]", cv2.resize(bgr, size[::-1], interpolation=cv2.INTER_AREA))
    return cast("NDArray[np.uint8]", cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))
