"""The messages of wire version 1 as values; ``wire.codec`` reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import msgspec

VERSION = 1
#: Header, image, label.
MAX_PARTS = 3

Buffer: TypeAlias = bytes | memoryview
Encoding: TypeAlias = Literal["jpeg", "png", "webp", "raw"]
#: Protocols that senders may use and are answered in: this project's wire, or another project's.
Protocol: TypeAlias = Literal["v1", "imagezmq", "netgear"]
#: Short names of the reasons for a refusal; also the values of a metric's label.
Reason: TypeAlias = Literal[
    "parts",
    "message_size",
    "header_size",
    "header",
    "version",
    "camera",
    "captured_at",
    "shape",
    "pixels",
    "image",
    "encoding",
    "label",
    "label_size",
    "label_ids",
    "label_empty",
    "unknown_sample",
    "cameras",
    "foreign_camera",
    "revoked",
    "rate",
    "store_full",
    "store_failed",
    "overflow",
    "stopping",
]

_MAX_ERROR_TEXT = 300


class WireError(ValueError):
    """A message that is refused.

    Attributes:
        reason: Short name of the reason, for the counter.
        camera: The sender's camera name if the header has a valid one, else "".
        seq: The frame's number if the header has a valid one.
        sample_id: The sample that a label was for ("" if unreadable); None for other messages.
        protocol: The sender's protocol.
    """

    def __init__(
        self,
        reason: Reason,
        text: str,
        *,
        camera: str = "",
        seq: int | None = None,
        sample_id: str | None = None,
        protocol: Protocol = "v1",
    ) -> None:
        super().__init__(text if len(text) <= _MAX_ERROR_TEXT else text[: _MAX_ERROR_TEXT - 3] + "...")
        self.reason: Reason = reason
        self.camera = camera
        self.seq = seq
        self.sample_id = sample_id
        self.protocol: Protocol = protocol


@dataclass(frozen=True, kw_only=True)
class FrameMessage:
    """A frame in wire version 1; the image is not decoded yet.

    Attributes:
        shape: (h, w, 3) when ``encoding`` is raw, and then ``image`` has exactly h * w * 3 bytes; else None.
        label: The encoded label, unchecked, or None.
    """

    camera: str
    seq: int
    captured_at: float
    encoding: Encoding
    image: Buffer
    shape: tuple[int, int, int] | None = None
    label: Buffer | None = None


@dataclass(frozen=True, kw_only=True)
class LabelMessage:
    """A label, encoded and unchecked, for a sample that was accepted earlier."""

    sample_id: str
    label: Buffer


@dataclass(frozen=True, kw_only=True)
class ForeignFrame:
    """A frame of a sender that uses another protocol, which has neither a number nor a time of capture.

    Attributes:
        protocol: The sender's protocol.
        camera: A valid camera name, derived from what the sender gives.
        shape: (h, w), or (h, w, c) with 1, 3 or 4 channels, of uint8 pixels, exactly as many as ``image``
            has bytes; None for an encoded image.
    """

    protocol: Protocol
    camera: str
    image: Buffer
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Goodbye:
    """The message of a NetGear sender that closes; it has no image."""


Frame: TypeAlias = FrameMessage | ForeignFrame
Message: TypeAlias = Frame | LabelMessage


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The JSON part of a frame; unknown keys are ignored, types are not converted."""

    v: int
    camera: str
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    captured_at: float
    encoding: Encoding
    shape: tuple[int, int, int] | None = None
    dtype: Literal["uint8"] | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a frame or label; ``camera`` and ``seq`` identify the frame."""

    v: int
    ok: bool
    id: str | None = None
    kept: bool | None = None
    score: float | None = None
    scale: float | None = None
    reason: str | None = None
    error: str | None = None
    code: str | None = None
    camera: str | None = None
    seq: int | None = None


class MaskHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON part of a published mask.

    Attributes:
        scale: Factor by which the frame was resized for the network; the mask has the frame's size.
        latency_s: Seconds from the frame's arrival to its mask.
        mean_confidence: Mean over pixels of the winning class's probability.
        repeated: Whether it is the mask of an earlier frame, which showed the same.
    """

    v: int = VERSION
    id: str
    camera: str
    seq: int
    captured_at: float
    model_version: str
    scale: float
    latency_s: float
    mean_confidence: float
    repeated: bool = False


class ClassesHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The meaning of the ids in the masks of a camera.

    Attributes:
        classes: Class names in the order of their ids.
        palette: Colour (red, green, blue) from 0 to 255 of each class, for display; 255 in a mask is no
            class.
    """

    v: int = VERSION
    camera: str
    model_version: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class MaskMessage:
    """A published mask: its header and the PNG of class ids, (H, W) like the frame."""

    header: MaskHeader
    png: bytes
