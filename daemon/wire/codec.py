"""Reads and writes messages of wire version 1, and reads other protocols; no sockets, no image decoding.

``docs/protocol.md`` explains the same to the authors of senders. Nothing here trusts its input: limits are
checked before JSON, JSON before types, and every error is one ``WireError``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.system.state import CAMERA_NAME
from dance_ondevice.daemon.wire import foreign
from dance_ondevice.daemon.wire.foreign import imagezmq_camera, netgear_camera
from dance_ondevice.daemon.wire.messages import (
    MAX_PARTS,
    VERSION,
    Buffer,
    ClassesHeader,
    FrameMessage,
    Goodbye,
    Header,
    LabelMessage,
    MaskHeader,
    MaskMessage,
    Message,
    Protocol,
    Reason,
    Reply,
    WireError,
)
from dance_ondevice.daemon.wire.shape import check_shape, show
from dance_ondevice.images.labels import class_colours

#: Allowed values of each key of a frame's header, for the error message.
_ALLOWED = {
    "v": "1",
    "camera": "a text",
    "seq": "a whole number from 0 to 2^63 - 1",
    "captured_at": "a number: seconds since 1970",
    "encoding": '"jpeg" (.jpg files as well), "png", "webp" and "raw"',
    "shape": "[height, width, 3]",
    "dtype": '"uint8"',
}
_IN_ERROR = re.compile(r"at `\$\.(\w+)|field `(\w+)`")
_MAX_CAPTURED_AT = 1e11
_MAX_SAMPLE_ID = 200


class _Peek(msgspec.Struct):
    """The fields that identify a header's kind and sender; of any type, since they are unchecked."""

    v: Any = msgspec.UNSET
    msg: Any = msgspec.UNSET
    terminate_flag: Any = msgspec.UNSET
    label_for: Any = msgspec.UNSET
    camera: Any = None
    seq: Any = None
    message: Any = None
    port: Any = None

    @property
    def protocol(self) -> Protocol:
        """The protocol of the sender."""
        if self.v is msgspec.UNSET and self.msg is not msgspec.UNSET:
            return "imagezmq"
        if self.v is msgspec.UNSET and self.terminate_flag is not msgspec.UNSET:
            return "netgear"
        return "v1"


class _LabelHeader(msgspec.Struct, kw_only=True):
    v: int = VERSION
    label_for: Annotated[str, msgspec.Meta(min_length=1, max_length=_MAX_SAMPLE_ID)]


_encode = msgspec.json.Encoder().encode
_peek = msgspec.json.Decoder(_Peek)
_header = msgspec.json.Decoder(Header)
_label_header = msgspec.json.Decoder(_LabelHeader)
_reply = msgspec.json.Decoder(Reply)
_mask_header = msgspec.json.Decoder(MaskHeader)


def parse(parts: Sequence[Buffer], limits: sections.Ingest, count: int | None = None) -> Message | Goodbye:
    """Read a message: its kind, its header, and whether its parts match the header.

    Args:
        parts: The ZMQ parts after the sender's envelope and the empty delimiter.
        limits: The section ``[ingest]`` of the configuration, with the limits.
        count: Number of parts of the message, if ``parts`` are only the first of them.

    Raises:
        WireError: The message is not valid; no other exception is raised, whatever the bytes are.
    """
    head = parts[0] if parts else b""
    if len(head) > limits.max_header_bytes:
        raise WireError(
            "header_size",
            f"the header has {len(head)} bytes, allowed are {limits.max_header_bytes}: the image is a part "
            "of its own, after the header",
        )
    try:
        # msgspec skips unknown keys without checking their encoding.
        # .NET may write a byte order mark before a text, and C a NUL at its end.
        text = str(head, "utf-8").removeprefix("\ufeff").rstrip("\0")
        peek = _peek.decode(text)
    except UnicodeDecodeError as error:
        raise WireError("header", f"the header is not UTF-8: {error.reason} at byte {error.start}") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        topic = "; the second part looks like one: send no topic before it" if _leads(parts[1:2]) else ""
        raise WireError("header", f"the header is not a JSON object: {error}{topic}") from error
    # Checked only now, so that the refusal can name the message, in the sender's own protocol.
    count = count or len(parts)
    # A goodbye of NetGear has no image.
    fewest = 1 if peek.protocol == "netgear" and peek.terminate_flag is True else 2
    if not fewest <= count <= MAX_PARTS:
        raise _blame(peek, "parts", f"the message has {count} part{'s' * (count != 1)}, allowed are 2 or 3")
    size = sum(len(part) for part in parts)
    if size > limits.max_message_bytes:
        raise _blame(
            peek,
            "message_size",
            f"the message has {size} bytes, allowed are {limits.max_message_bytes} "
            "(ingest.max_message_bytes)",
        )
    if peek.protocol == "imagezmq":
        return foreign.parse_imagezmq(text, parts, limits)
    if peek.protocol == "netgear":
        return foreign.parse_netgear(text, parts, limits)
    if type(peek.v) is not int or peek.v != VERSION:
        found = "none" if peek.v is msgspec.UNSET else show(peek.v)
        raise _blame(peek, "version", f'the header\'s "v" is {found}, this daemon speaks version {VERSION}')
    if peek.label_for is not msgspec.UNSET:
        return _parse_label(text, parts)
    return _parse_frame(text, peek, parts, limits)


def accepted(
    *,
    sample_id: str,
    camera: str,
    seq: int,
    kept: bool,
    score: float,
    scale: float,
    reason: str,
    protocol: Protocol = "v1",
) -> bytes:
    """The answer to a valid frame, whether it is kept or not."""
    reply = _encode(
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
    return foreign.answer(protocol, reply, ok=True)


def farewell() -> bytes:
    """The answer to a goodbye."""
    return foreign.answer("netgear", _encode(Reply(v=VERSION, ok=True)), ok=True)


def labelled(sample_id: str) -> bytes:
    """The answer to a label that is stored."""
    return _encode(Reply(v=VERSION, ok=True, id=sample_id))


def refused(error: WireError) -> bytes:
    """The answer to a message that is refused, in the sender's protocol."""
    reply = _encode(
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
    return foreign.answer(error.protocol, reply, ok=False, text=str(error))


def parse_reply(data: Buffer) -> Reply:
    """Read an answer.

    Raises:
        WireError: The bytes are not an answer of this version.
    """
    try:
        return _reply.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError("header", f"the reply is not one of version {VERSION}: {error}") from error


def frame_parts(
    header: Header, image: Buffer, label: Buffer | None = None
) -> tuple[bytes, Buffer] | tuple[bytes, Buffer, Buffer]:
    """The parts of a frame message, ready to be sent."""
    head = _encode(header)
    return (head, image) if label is None else (head, image, label)


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
    repeated: bool = False,
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
        repeated=repeated,
    )
    return [f"mask/{camera}".encode(), _encode(header), mask_png]


def classes_message(camera: str, classes: Sequence[str], model_version: str) -> list[bytes]:
    """The two parts that give subscribers the name and colour of each id in a camera's masks."""
    header = ClassesHeader(
        camera=camera,
        model_version=model_version,
        classes=tuple(classes),
        palette=tuple(class_colours(len(classes))),
    )
    return [f"classes/{camera}".encode(), _encode(header)]


def parse_mask(parts: Sequence[Buffer]) -> MaskMessage:
    """Read a published mask; the PNG is not decoded.

    Raises:
        WireError: The parts are not a mask of this version.
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
        raise WireError("camera", f"the topic {show(bytes(parts[0]))} is not that of {header.camera}")
    return MaskMessage(header=header, png=bytes(parts[2]))


def _leads(parts: Sequence[Buffer]) -> bool:
    """Whether the first part there is begins like a header."""
    return bool(parts) and bytes(parts[0][:1]) == b"{"


def _parse_frame(text: str, peek: _Peek, parts: Sequence[Buffer], limits: sections.Ingest) -> FrameMessage:
    try:
        header = _header.decode(text)
    except msgspec.MsgspecError as error:
        raise _blame(peek, "header", _wrong_header(error)) from error
    if CAMERA_NAME.fullmatch(header.camera) is None:
        raise _blame(
            peek,
            "camera",
            f"the camera name {show(header.camera)} is not allowed: up to 64 letters, digits and _.- "
            "that begin with a letter or digit",
        )
    if not (math.isfinite(header.captured_at) and 0 < header.captured_at < _MAX_CAPTURED_AT):
        raise _blame(
            peek,
            "captured_at",
            f"captured_at is {header.captured_at:g}, expected seconds since 1970 as a number above 0 and "
            f"below {_MAX_CAPTURED_AT:g}{_other_unit(header.captured_at)}",
        )
    if len(parts[1]) == 0:
        raise _blame(peek, "image", "the image is empty (0 bytes)")
    if header.encoding == "raw":
        if header.shape is None or header.dtype is None:
            raise _blame(peek, "shape", 'a raw image needs "shape": [height, width, 3] and "dtype": "uint8"')
        try:
            check_shape(header.shape, (3,), len(parts[1]), limits)
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


def _other_unit(captured_at: float) -> str:
    """A hint where a time is one of our days in a smaller unit."""
    for name, part in (("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9)):
        if 1e9 < captured_at / part < 1e10:
            return f": these seem to be {name}, so divide by {part:g}"
    return ""


def _blame(peek: _Peek, reason: Reason, text: str) -> WireError:
    """An error that names its message by the valid fields of its header."""
    if peek.protocol == "imagezmq":
        return WireError(reason, text, camera=imagezmq_camera(peek.msg), protocol="imagezmq")
    if peek.protocol == "netgear":
        camera = netgear_camera(peek.message, peek.port)
        return WireError(reason, text, camera=camera, protocol="netgear")
    if peek.v == VERSION and peek.label_for is not msgspec.UNSET:
        known = isinstance(peek.label_for, str) and len(peek.label_for) <= _MAX_SAMPLE_ID
        return WireError(reason, text, sample_id=peek.label_for if known else "")
    camera = peek.camera if isinstance(peek.camera, str) and CAMERA_NAME.fullmatch(peek.camera) else ""
    seq = peek.seq if type(peek.seq) is int and 0 <= peek.seq < 2**63 else None
    return WireError(reason, text, camera=camera, seq=seq)


def _wrong_header(error: msgspec.MsgspecError) -> str:
    """The error in a header; the allowed values come first, because texts are cut off."""
    found = _IN_ERROR.search(str(error))
    key = (found[1] or found[2]) if found else ""
    if key not in _ALLOWED:
        return f"the header is wrong: {error}"
    return f"the header is wrong: allowed for {key} is {_ALLOWED[key]}: {error}"
