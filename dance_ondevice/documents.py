"""Decode JSON that another process wrote, with one error for everything that can be wrong with it."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


class DocumentError(ValueError):
    """Error: the bytes are not the expected JSON document; the message says what is wrong with them."""


def decode(data: bytes | bytearray | memoryview | str, form: type[T] | msgspec.json.Decoder[T]) -> T:
    """Decode a JSON document of a known form.

    ``msgspec`` itself raises errors of three families: its own, ``UnicodeError`` for text that is not UTF-8,
    and ``RecursionError`` for lists nested by the thousand.

    Args:
        data: The JSON document.
        form: Type of the document; a decoder of that type if many documents are read.

    Raises:
        DocumentError: The data is not such a document.
    """
    decoder = form if isinstance(form, msgspec.json.Decoder) else msgspec.json.Decoder(form)
    try:
        return decoder.decode(data)
    except RecursionError as error:
        raise DocumentError("its values are nested too deeply") from error
    except UnicodeError as error:
        raise DocumentError(f"its text is not UTF-8: {error}") from error
    except msgspec.MsgspecError as error:
        raise DocumentError(str(error)) from error
