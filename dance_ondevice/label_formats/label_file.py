"""A file that a labelling tool wrote, as the readers of formats get it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.label_formats.regions import FormatError

__all__ = ["LabelFile"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
            return decode(self.data, object)
        except DocumentError as error:
            return FormatError(f"no JSON: {error}")
