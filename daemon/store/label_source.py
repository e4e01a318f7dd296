"""The author of a label that a model made, stored in its PNG, so that a rebuilt index knows it."""

from __future__ import annotations

import struct
import zlib

from dance_ondevice.policies.samples.splits import MACHINES

__all__ = ["read", "stamp"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"Source\0"
#: Signature, and the IHDR chunk that must come first: length, name, 13 bytes, checksum.
_AFTER_HEADER = len(_SIGNATURE) + 25


def stamp(png: bytes, source: str) -> bytes:
    """The same PNG with a text chunk ``Source`` (PNG specification, 11.3.4.3)."""
    body = b"tEXt" + _KEYWORD + source.encode("latin-1")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_AFTER_HEADER] + chunk + png[_AFTER_HEADER:]


def read(png: bytes) -> str | None:
    """The model that made the label, ``teacher`` or ``self``; None for any other PNG."""
    (length,) = struct.unpack(">I", png[_AFTER_HEADER : _AFTER_HEADER + 4].rjust(4, b"\0"))
    body = png[_AFTER_HEADER + 4 : _AFTER_HEADER + 8 + min(length, 64)]
    if not body.startswith(b"tEXt" + _KEYWORD):
        return None
    source = body[4 + len(_KEYWORD) :].decode("latin-1")
    return source if source in MACHINES else None
