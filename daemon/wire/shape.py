"""Checks a header's declared image shape against the received bytes, and formats values for errors."""

from __future__ import annotations

from dance_ondevice.daemon.config.sections import Ingest
from dance_ondevice.daemon.wire.messages import WireError


def check_shape(shape: tuple[int, ...], channels: tuple[int, ...], size: int, limits: Ingest) -> None:
    """Check a declared (h, w[, c]) against the number of bytes; a grey image may leave c out.

    Raises:
        WireError: The shape is not that of an image, has too many pixels, or does not match the bytes.
    """
    colour = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or min(shape) < 1 or colour not in channels:
        wanted = " or ".join(f"[height, width, {c}]" for c in channels)
        raise WireError("shape", f"the shape {show_shape(shape)} is not {wanted}")
    height, width = shape[0], shape[1]
    if height * width > limits.max_pixels:
        raise WireError(
            "pixels",
            f"the image is {show(width)}x{show(height)} pixels, allowed are {limits.max_pixels} in total "
            "(ingest.max_pixels)",
        )
    if height * width * colour != size:
        raise WireError(
            "shape",
            f"the shape {show_shape(shape)} takes {height * width * colour} bytes, the image has {size}",
        )


def show(value: object) -> str:
    """Format a value from the network, short and without control characters.

    Python refuses to print integers of thousands of digits, and cannot print lists of thousands of levels.
    """
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and abs(value) >= 10**18:
        return "a number of 19 digits or more"
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def show_shape(shape: tuple[int, ...]) -> str:
    """Format a declared shape as in JSON, cut off where it has too many sides."""
    return "[" + ", ".join(map(show, shape[:8])) + (", ...]" if len(shape) > 8 else "]")
