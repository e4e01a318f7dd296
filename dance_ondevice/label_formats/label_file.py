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
    """A file's name and bytes; its JSON is decoded once, whoever asks."""

    name: str
    content: bytes

    @property
    def data(self) -> bytes:
        """The bytes without the mark that some editors put before text."""
        return self.content.removeprefix(_BYTE_ORDER_MARK)

    @property
    def document(self) -> object:
        """The JSON document; None for a file that is none."""
        found = self._decoded
        return None if isinstance(found, FormatError) else found

    def json(self) -> object:
        """The JSON document.

        Raises:
            FormatError: the file is no JSON.
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
