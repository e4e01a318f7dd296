"""Reading sysfs attributes: small text files that may be busy, switched off, forbidden or gone."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

#: Reads one attribute; raises ``OSError`` when it cannot, ``UnicodeDecodeError`` when it is no text.
Read = Callable[[Path], str]

#: What goes wrong when an attribute is read or understood.
UNREADABLE = (OSError, ValueError)

_LARGEST_ATTRIBUTE = 4096
_TRIES = 3


def read_attribute(path: Path) -> str:
    """The text of an attribute, without the newline.

    ``Path.read_text`` would do but for EAGAIN, with which drivers say that a conversion is under way:
    buffered files turn it into a ``TypeError``. Here it is tried again at once, then raised.

    Raises:
        OSError: it cannot be read; ``BlockingIOError`` when it stayed busy.
        ValueError: it is not text.
    """
    for attempt in range(_TRIES):
        try:
            return _read_once(path)
        except BlockingIOError:
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def read_number(path: Path, read: Read) -> float:
    """An attribute that holds one finite number.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else.
    """
    text = read(path)
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{path} holds {text[:40]!r}, no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{path} holds {text[:40]!r}, no finite number")
    return number


def text_or_none(path: Path, read: Read) -> str | None:
    """An attribute, or None where it is not there or cannot be read."""
    try:
        return read(path)
    except UNREADABLE:
        return None


def number_or_none(path: Path, read: Read) -> float | None:
    """A number, or None where there is none."""
    try:
        return read_number(path, read)
    except UNREADABLE:
        return None


def entries(folder: Path, prefix: str = "") -> list[Path]:
    """What is in a folder and starts with ``prefix``, in order of name; nothing where there is no folder."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(prefix))
    except OSError:
        return []


def reason(error: Exception) -> str:
    """A failed read in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _read_once(path: Path) -> str:
    # O_NONBLOCK: whatever stands at the path, a read must never hold up the thread that samples.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LARGEST_ATTRIBUTE).decode().strip()
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)
