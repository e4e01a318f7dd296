"""Wire version 1, and imagezmq beside it: what messages mean, without sockets and without decoding images.

``docs/protocol.md`` tells the same to the authors of senders. Nothing here trusts its input: limits come
before JSON, JSON before types, and whatever is wrong ends as one ``WireError``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.system.state import CAMERA_NAME
from dance_ondevice.daemon.wire.messages import (
    MAX_PARTS,
    VERSION,
    Buffer,
    FrameMessage,
    Header,
    ImagezmqMessage,
    LabelMessage,
    MaskHeader,
    MaskMessage,
    Message,
    Reason,
    Reply,
    WireError,
)

__all__ = [
    "accepted",
    "camera_name",
    "frame_parts",
    "label_parts",
    "labelled",
    "mask_message",
    "parse",
    "parse_mask",
    "parse_reply",
    "refused",
]

_MAX_CAPTURED_AT = 1e11
_MAX_SAMPLE_ID = 200
_NOT_IN_CAMERA = re.compile(r"[^A-Za-z0-9_.-]+")


class _Peek(msgspec.Struct):
    """What tells the kinds of headers apart, and whom to blame; any type, since nothing is checked yet."""

    v: Any = msgspec.UNSET
    msg: Any = msgspec.UNSET
    label_for: Any = msgspec.UNSET
    camera: Any = None
    seq: Any = None


class _ImagezmqHeader(msgspec.Struct):
    msg: Any
    shape: tuple[int, ...] | None = None
    dtype: str | None = None


class _LabelHeader(msgspec.Struct, kw_only=True):
    v: int = VERSION
    label_for: Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_SAMPLE_ID)]


_encode = msgspec.json.Encoder().encode
_peek = msgspec.json.Decoder(_Peek)
_header = msgspec.json.Decoder(Header)
_label_header = msgspec.json.Decoder(_LabelHeader)
_imagezmq_header = msgspec.json.Decoder(_ImagezmqHeader)
_reply = msgspec.json.Decoder(Reply)
_mask_header = msgspec.json.Decoder(MaskHeader)


def camera_name(text: str) -> str:
    """Turn any text into a valid camera name: "imagezmq" when nothing of it can be kept."""
    return _NOT_IN_CAMERA.sub("_", text).lstrip("_.-")[:64] or "imagezmq"


def parse(parts: Sequence[Buffer], limits: sections.Ingest, count: int | None = None) -> Message:
    """Read a message: its kind, its header, and whether its parts fit what the header says.

    Args:
        parts: the ZMQ parts after the sender's identity and an empty delimiter.
        limits: ``[ingest]`` of the configuration, with the most that is accepted.
        count: how many parts there were, if ``parts`` are only the first of them.

    Raises:
        WireError: anything that is not a valid message; raises nothing else, whatever the bytes.
    """
    head = parts[0] if parts else b""
    if len(head) > limits.max_header_bytes:
        raise WireError(
            "header_size", f"the header has {len(head)} bytes, allowed are {limits.max_header_bytes}"
        )
    try:
        # msgspec skips unknown keys without looking at their encoding.
        text = str(head, "utf-8")
        peek = _peek.decode(text)
    except UnicodeDecodeError as error:
        raise WireError("header", f"the header is not UTF-8: {error.reason} at byte {error.start}") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise WireError("header", f"the header is not a JSON object: {error}") from error
    # Only now, so that the refusal can say whose message it was, in the sender's own language.
    count = count or len(parts)
    if not 2 <= count <= MAX_PARTS:
        raise _blame(peek, "parts", f"the message has {count} part{'s' * (count != 1)}, allowed are 2 or 3")
    size = sum(len(part) for part in parts)
    if size > limits.max_message_bytes:
        raise _blame(
            peek,
            "message_size",
            f"the message has {size} bytes, allowed are {limits.max_message_bytes} "
            "(ingest.max_message_bytes)",
        )
    if _is_imagezmq(peek):
        return _parse_imagezmq(text, parts, limits)
    if type(peek.v) is not int or peek.v != VERSION:
        found = "none" if peek.v is msgspec.UNSET else _show(peek.v)
        raise _blame(peek, "version", f'the header\'s "v" is {found}, this daemon speaks version {VERSION}')
    if peek.label_for is not msgspec.UNSET:
        return _parse_label(text, parts)
    return _parse_frame(text, peek, parts, limits)


def accepted(
    *, sample_id: str, camera: str, seq: int, kept: bool, score: float, scale: float, reason: str
) -> bytes:
    """The answer to a frame that was understood, whether it is kept or not."""
    return _encode(
        Reply(
            v=VERSION,
            ok=True,
            id=sample_id,
            kept=kept,
            score=round(score, 6),
            scale=scale,
            reason=reason,
            camera=camera,
            seq=seq,
        )
    )


def labelled(sample_id: str) -> bytes:
    """The answer to a label that is stored."""
    return _encode(Reply(v=VERSION, ok=True, id=sample_id))


def refused(error: WireError) -> bytes:
    """The answer to a message that is refused: JSON, or plain text for an imagezmq sender."""
    if error.imagezmq:
        return f"ERROR {error}".encode()
    return _encode(
        Reply(
            v=VERSION,
            ok=False,
            error=str(error),
            code=error.reason,
            id=error.sample_id or None,
            camera=error.camera or None,
            seq=error.seq,
        )
    )


def parse_reply(data: Buffer) -> Reply:
    """Read an answer.

    Raises:
        WireError: not an answer of this version.
    """
    try:
        return _reply.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError("header", f"the reply is not one of version {VERSION}: {error}") from error


def frame_parts(
    header: Header, image: Buffer, label: Buffer | None = None
) -> tuple[bytes, Buffer] | tuple[bytes, Buffer, Buffer]:
    """The parts of a frame message, to be sent as they are."""
    head = _encode(header)
    return (head, image) if label is None else (head, image, label)


def label_parts(sample_id: str, label: Buffer) -> tuple[bytes, Buffer]:
    """The parts of a message that labels an earlier frame."""
    return _encode({"v": VERSION, "label_for": sample_id}), label


def mask_message(
    *,
    frame_id: str,
    camera: str,
    seq: int,
    captured_at: float,
    model_version: str,
    scale: float,
    latency_s: float,
    mean_confidence: float,
    mask_png: bytes,
) -> list[bytes]:
    """The three parts of a published mask; see ``MaskHeader`` for the units."""
    header = MaskHeader(
        id=frame_id,
        camera=camera,
        seq=seq,
        captured_at=captured_at,
        model_version=model_version,
        scale=scale,
        latency_s=round(latency_s, 6),
        mean_confidence=round(mean_confidence, 6),
    )
    return [f"mask/{camera}".encode(), _encode(header), mask_png]


def parse_mask(parts: Sequence[Buffer]) -> MaskMessage:
    """Read a published mask; the PNG is not decoded.

    Raises:
        WireError: not the three parts of a mask of this version.
    """
    if len(parts) != 3:
        raise WireError("parts", f"a mask message has 3 parts, found {len(parts)}")
    try:
        header = _mask_header.decode(parts[1])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError("header", f"the mask's header is wrong: {error}") from error
    if header.v != VERSION:
        raise WireError("version", f"the mask is of version {header.v}, expected {VERSION}")
    if bytes(parts[0]) != f"mask/{header.camera}".encode():
        raise WireError("camera", f"the topic {_show(bytes(parts[0]))} is not that of {header.camera}")
    return MaskMessage(header=header, png=bytes(parts[2]))


def _parse_frame(text: str, peek: _Peek, parts: Sequence[Buffer], limits: sections.Ingest) -> FrameMessage:
    try:
        header = _header.decode(text)
    except msgspec.MsgspecError as error:
        raise _blame(peek, "header", f"the header is wrong: {error}") from error
    if CAMERA_NAME.fullmatch(header.camera) is None:
        raise _blame(
            peek,
            "camera",
            f"the camera name {_show(header.camera)} is not allowed: up to 64 letters, digits and _.- "
            "that begin with a letter or digit",
        )
    if not (math.isfinite(header.captured_at) and 0 < header.captured_at < _MAX_CAPTURED_AT):
        raise _blame(
            peek,
            "captured_at",
            f"captured_at is {header.captured_at:g}, expected seconds since 1970 as a number above 0 and "
            f"below {_MAX_CAPTURED_AT:g}",
        )
    if len(parts[1]) == 0:
        raise _blame(peek, "image", "the image is empty (0 bytes)")
    if header.encoding == "raw":
        if header.shape is None or header.dtype is None:
            raise _blame(peek, "shape", 'a raw image needs "shape": [height, width, 3] and "dtype": "uint8"')
        try:
            _check_shape(header.shape, (3,), len(parts[1]), limits)
        except WireError as error:
            raise _blame(peek, error.reason, str(error)) from error
    return FrameMessage(
        camera=header.camera,
        seq=header.seq,
        captured_at=header.captured_at,
        encoding=header.encoding,
        image=parts[1],
        shape=header.shape if header.encoding == "raw" else None,
        label=parts[2] if len(parts) == 3 else None,
    )


def _parse_label(text: str, parts: Sequence[Buffer]) -> LabelMessage:
    try:
        header = _label_header.decode(text)
    except msgspec.MsgspecError as error:
        raise WireError("header", f"the header is wrong: {error}", sample_id="") from error
    if len(parts) != 2:
        raise WireError(
            "parts",
            f"a label message has 2 parts, found {len(parts)}",
            sample_id=header.label_for,
        )
    return LabelMessage(sample_id=header.label_for, label=parts[1])


def _parse_imagezmq(text: str, parts: Sequence[Buffer], limits: sections.Ingest) -> ImagezmqMessage:
    try:
        header = _imagezmq_header.decode(text)
    except msgspec.MsgspecError as error:
        raise WireError("header", f"the imagezmq header is wrong: {error}", imagezmq=True) from error
    camera = camera_name(header.msg if isinstance(header.msg, str) else "")
    try:
        if len(parts) != 2:
            raise WireError("parts", f"an imagezmq message has 2 parts, found {len(parts)}")
        if len(parts[1]) == 0:
            raise WireError("image", "the image is empty (0 bytes)")
        if header.shape is None or header.dtype is None:
            return ImagezmqMessage(camera=camera, image=parts[1])
        if header.dtype != "uint8":
            raise WireError("shape", f"the array is of {_show(header.dtype)}, allowed is uint8")
        _check_shape(header.shape, (1, 3), len(parts[1]), limits)
    except WireError as error:
        raise WireError(error.reason, str(error), camera=camera, imagezmq=True) from error
    return ImagezmqMessage(camera=camera, image=parts[1], shape=header.shape)


def _check_shape(
    shape: tuple[int, ...], channels: tuple[int, ...], size: int, limits: sections.Ingest
) -> None:
    """Check a declared (h, w[, c]) against the bytes that came; a grey image may leave c out."""
    colour = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or min(shape) < 1 or colour not in channels:
        wanted = " or ".join(f"[height, width, {c}]" for c in channels)
        raise WireError("shape", f"the shape {_show_shape(shape)} is not {wanted}")
    height, width = shape[0], shape[1]
    if height * width > limits.max_pixels:
        raise WireError(
            "pixels",
            f"the image is {_show(width)}x{_show(height)} pixels, allowed are {limits.max_pixels} in total "
            "(ingest.max_pixels)",
        )
    if height * width * colour != size:
        raise WireError(
            "shape",
            f"the shape {_show_shape(shape)} takes {height * width * colour} bytes, the image has {size}",
        )


def _is_imagezmq(peek: _Peek) -> bool:
    return peek.v is msgspec.UNSET and peek.msg is not msgspec.UNSET


def _blame(peek: _Peek, reason: Reason, text: str) -> WireError:
    """An error that names its message as far as the header can be believed."""
    if _is_imagezmq(peek):
        camera = camera_name(peek.msg) if isinstance(peek.msg, str) else ""
        return WireError(reason, text, camera=camera, imagezmq=True)
    if peek.v == VERSION and peek.label_for is not msgspec.UNSET:
        known = isinstance(peek.label_for, str) and len(peek.label_for) <= _MAX_SAMPLE_ID
        return WireError(reason, text, sample_id=peek.label_for if known else "")
    camera = peek.camera if isinstance(peek.camera, str) and CAMERA_NAME.fullmatch(peek.camera) else ""
    seq = peek.seq if type(peek.seq) is int and 0 <= peek.seq < 2**63 else None
    return WireError(reason, text, camera=camera, seq=seq)


def _show(value: object) -> str:
    """A value from the network, short and without control characters.

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


def _show_shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(_show, shape[:8])) + (", ...]" if len(shape) > 8 else "]")
