"""Reads other projects' protocols, imagezmq and vidgear's NetGear, so that their senders work unchanged.

Both send a JSON header and an image, without number or time. A header without ``v`` but with ``msg`` is
imagezmq's (github.com/jeffbass/imagezmq, ``ImageSender``); one with ``terminate_flag`` is NetGear's
(github.com/abhiTronix/vidgear, ``NetGear.send``).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec

from dance_ondevice.daemon.config.sections import Ingest
from dance_ondevice.daemon.wire.messages import Buffer, ForeignFrame, Goodbye, Protocol, WireError
from dance_ondevice.daemon.wire.shape import check_shape, show

_IMAGEZMQ_OK = b"OK"
_LONGEST_CAMERA = 64
_NOT_IN_CAMERA = re.compile(r"[^A-Za-z0-9_.-]+")


class _ImagezmqHeader(msgspec.Struct):
    msg: Any
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


class _NetgearHeader(msgspec.Struct):
    """The keys of ``NetGear.send`` that are used; ``shape`` and ``dtype`` are "" for a compressed frame."""

    terminate_flag: bool
    compression: Any = False
    message: Any = None
    port: Any = None
    shape: tuple[int, ...] | str | None = None
    dtype: str | None = None


_imagezmq_header = msgspec.json.Decoder(_ImagezmqHeader)
_netgear_header = msgspec.json.Decoder(_NetgearHeader)
_encode = msgspec.json.Encoder().encode


def camera_name(text: str, otherwise: str = "imagezmq") -> str:
    """Turn any text into a valid camera name; ``otherwise`` if it is empty.

    Accents are left out. A name that would lose letters of other scripts, or its end, gets a digest of the
    text, so that two cameras never become one.
    """
    latin = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    name = _NOT_IN_CAMERA.sub("_", latin).lstrip("_.-")
    if latin.isascii() and len(name) <= _LONGEST_CAMERA:
        return name or otherwise
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{(name or otherwise)[: _LONGEST_CAMERA - 9].rstrip('_.-') or otherwise}-{digest}"


def imagezmq_camera(msg: object) -> str:
    """The camera name of an imagezmq sender: its message, which must hold a text, else ``imagezmq``.

    Of a list it is the first text, of an object ``camera`` or ``name``. A number may be a frame's.
    """
    if isinstance(msg, dict):
        msg = [msg.get("camera"), msg.get("name")]
    if isinstance(msg, list):
        msg = next((each for each in msg if isinstance(each, str)), "")
    return camera_name(msg if isinstance(msg, str) else "")


def netgear_camera(message: object, port: object) -> str:
    """The camera name of a NetGear sender, which has none: from its message, else its server's port."""
    if isinstance(message, dict) and isinstance(message.get("camera"), str):
        return camera_name(message["camera"], "netgear")
    if isinstance(port, (str, int)) and not isinstance(port, bool):
        return camera_name(f"netgear-{show(port).strip(chr(39))}", "netgear")
    return "netgear"


def parse_imagezmq(text: str, parts: Sequence[Buffer], limits: Ingest) -> ForeignFrame:
    """Read a message of imagezmq.

    Raises:
        WireError: The message cannot be used.
    """
    try:
        header = _imagezmq_header.decode(text)
    except msgspec.MsgspecError as error:
        raise WireError("header", f"the imagezmq header is wrong: {error}", protocol="imagezmq") from error
    camera = imagezmq_camera(header.msg)
    declared = None if header.shape is None or header.dtype is None else (header.shape, header.dtype)
    return _frame("imagezmq", camera, declared, parts, limits)


def parse_netgear(text: str, parts: Sequence[Buffer], limits: Ingest) -> ForeignFrame | Goodbye:
    """Read a message of NetGear: a frame, or the goodbye, which may come without an image.

    Raises:
        WireError: The message cannot be used.
    """
    try:
        header = _netgear_header.decode(text)
    except msgspec.MsgspecError as error:
        raise WireError("header", f"the NetGear header is wrong: {error}", protocol="netgear") from error
    if header.terminate_flag:
        return Goodbye()
    camera = netgear_camera(header.message, header.port)
    declared: tuple[tuple[int, ...], str] | None = None
    if not header.compression:
        if not isinstance(header.shape, tuple) or not header.dtype:
            raise WireError(
                "shape",
                'a NetGear frame without "compression" needs "shape": [height, width, 3] and '
                '"dtype": "uint8"',
                camera=camera,
                protocol="netgear",
            )
        declared = (header.shape, header.dtype)
    return _frame("netgear", camera, declared, parts, limits)


def answer(protocol: Protocol, reply: bytes, *, ok: bool, text: str = "") -> bytes:
    """The answer to a frame, in its sender's protocol.

    An imagezmq sender expects text. A NetGear sender accepts any bytes as a confirmation; in its
    bidirectional mode it expects an object whose ``data`` it hands to its caller, so the answer is put there.

    Args:
        protocol: The sender's protocol.
        reply: The answer in wire version 1.
        ok: Whether the frame was valid.
        text: The error, if it was not.
    """
    if protocol == "imagezmq":
        return _IMAGEZMQ_OK if ok else f"ERROR {text}".encode()
    if protocol == "netgear":
        return _encode({"return_type": "dict", "data": msgspec.Raw(reply)})
    return reply


def _frame(
    protocol: Protocol,
    camera: str,
    declared: tuple[tuple[int, ...], str] | None,
    parts: Sequence[Buffer],
    limits: Ingest,
) -> ForeignFrame:
    """Check the parts against the header, which declares a shape and a type or an encoded image."""
    try:
        if len(parts) != 2:
            raise WireError("parts", f"a message of {protocol} has 2 parts, found {len(parts)}")
        if len(parts[1]) == 0:
            raise WireError("image", "the image is empty (0 bytes)")
        if declared is None:
            return ForeignFrame(protocol=protocol, camera=camera, image=parts[1])
        shape, dtype = declared
        if dtype != "uint8":
            raise WireError("shape", f"the array is of {show(dtype)}, allowed is uint8")
        check_shape(shape, (1, 3, 4), len(parts[1]), limits)
    except WireError as error:
        raise WireError(error.reason, str(error), camera=camera, protocol=protocol) from error
    return ForeignFrame(protocol=protocol, camera=camera, image=parts[1], shape=shape)
