"""Decode JSON that another process wrote, with one error for everything that can be wrong with it."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


class DocumentError(ValueError):
    """The bytes are not the JSON document that was expected; the message says what is wrong with them."""


def decode(data: bytes | bytearray | memoryview | str, form: type[T] | msgspec.json.Decoder[T]) -> T:
    """Decode a JSON document of a known form.

    ``msgspec`` itself raises errors of three families: its own, ``UnicodeError`` for text that is not UTF-8,
    and ``RecursionError`` for lists nested by the thousand.

    Args:
        data: The document.
        form: Its type; a decoder of that type where many documents are read.

    Raises:
        DocumentError: It is not such a document.
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
