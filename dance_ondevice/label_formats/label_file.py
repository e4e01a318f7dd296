"""A file that a labelling tool wrote, as the readers of formats get it."""

from __future__ import annotations

import base64
import binascii
import codecs
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.label_formats.regions import FormatError

__all__ = ["LabelFile", "embedded"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: Marks of text that a Windows console wrote. UTF-32's begins like one of UTF-16's, and nothing writes it.
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: Beginnings of archives that are not opened.
_ARCHIVES = {b"\x1f\x8b": "gzip", b"7z\xbc\xaf": "7z", b"Rar!": "rar", b"PK\x03\x04": "zip", b"BZh": "bzip2"}


@dataclass(frozen=True)
class LabelFile:
    """Name and bytes of a file; its JSON is decoded once and cached."""

    name: str
    content: bytes

    @property
    def data(self) -> bytes:
        """Return the bytes without the byte order mark that some editors write."""
        return self.content.removeprefix(_BYTE_ORDER_MARK)

    @property
    def document(self) -> object:
        """Return the JSON document; None if the file is not JSON."""
        found = self._decoded
        return None if isinstance(found, FormatError) else found

    def json(self) -> object:
        """Return the JSON document.

        Raises:
            FormatError: The file is not JSON.
        """
        if isinstance(self._decoded, FormatError):
            raise self._decoded
        return self._decoded

    @cached_property
    def _decoded(self) -> object:
        try:
            data: bytes | str = self.data
            if self.data.startswith(_WIDE_MARKS):
                data = self.data.decode("utf-16")
            return decode(data, object)
        except UnicodeError as error:
            return FormatError(f"no JSON: its text is not UTF-16: {error}")
        except DocumentError as error:
            found = self._with_nan()
            return self._no_json(error) if found is None else found

    def _with_nan(self) -> object:
        """Return the document if all that is wrong with it are Python's NaN and Infinity; else None."""
        if not any(word in self.data for word in (b"NaN", b"Infinity")):
            return None
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError):
            return None

    def _no_json(self, error: DocumentError) -> FormatError:
        kind = next((name for mark, name in _ARCHIVES.items() if self.data.startswith(mark)), None)
        kind = "tar" if self.data[257:262] == b"ustar" else kind
        if kind is not None:
            return FormatError(f"it is a {kind} archive: unpack it, and name the folder")
        if self._is_lines():
            return FormatError("it is one JSON document a line, which is not read: export COCO with outlines")
        if self.name.lower().endswith((".txt", ".csv")):
            return FormatError(
                "it is text, as YOLO and others write labels, which is not read: export COCO with outlines"
            )
        return FormatError(f"no JSON: {error}")

    def _is_lines(self) -> bool:
        """Return whether the file is a JSON document a line, as Labelbox and others write it."""
        first, _, rest = self.data.partition(b"\n")
        try:
            return bool(rest.strip()) and isinstance(decode(first, object), Mapping)
        except DocumentError:
            return False


def embedded(data: object) -> bytes:
    """Decode bytes that a file holds as base64.

    Raises:
        ValueError: It is no text in base64.
    """
    if not isinstance(data, str):
        raise ValueError("it holds no image")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError(f"it is no base64: {error}") from error
