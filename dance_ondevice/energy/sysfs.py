"""Reading sysfs attributes: small text files that may be busy, switched off, forbidden or gone."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

#: Function that reads one attribute; it raises ``OSError``, or ``UnicodeDecodeError`` if it is not text.
Read = Callable[[Path], str]

#: Errors of reading or parsing an attribute.
UNREADABLE = (OSError, ValueError)

_LARGEST_ATTRIBUTE = 4096
_TRIES = 3


def read_attribute(path: Path) -> str:
    """Read the text of an attribute, without the newline.

    Drivers return EAGAIN while a conversion runs, which ``Path.read_text`` turns into a ``TypeError``. Here
    the read is repeated at once, then the error is raised.

    Raises:
        OSError: The attribute cannot be read; ``BlockingIOError`` if it stayed busy.
        ValueError: The attribute is not text.
    """
    for attempt in range(_TRIES):
        try:
            return _read_once(path)
        except BlockingIOError:
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def read_number(path: Path, read: Read) -> float:
    """Read an attribute that holds one finite number.

    Raises:
        OSError: The attribute cannot be read.
        ValueError: The attribute is not a finite number.
    """
    text = read(path)
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{path} holds {text[:40]!r}, no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{path} holds {text[:40]!r}, which is not a finite number")
    return number


def text_or_none(path: Path, read: Read) -> str | None:
    """Read the text of an attribute; None if it does not exist or cannot be read."""
    try:
        return read(path)
    except UNREADABLE:
        return None


def number_or_none(path: Path, read: Read) -> float | None:
    """Read the number in an attribute; None if there is none."""
    try:
        return read_number(path, read)
    except UNREADABLE:
        return None


def entries(folder: Path, prefix: str = "") -> list[Path]:
    """List the entries of a folder that start with ``prefix``, sorted by name; none without the folder."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(prefix))
    except OSError:
        return []


def reason(error: Exception) -> str:
    """Describe a failed read in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _read_once(path: Path) -> str:
    # O_NONBLOCK: any kind of file may be at the path, and a read must never block the sampling thread.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LARGEST_ATTRIBUTE).decode().strip()
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)
