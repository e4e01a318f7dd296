"""Results as files: one JSON object, with how it came about under ``about`` beside what was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import write_whole

T = TypeVar("T")


class ResultError(ValueError):
    """A file that is no benchmark result."""


@dataclass(frozen=True, kw_only=True)
class About:
    """Where a result comes from.

    Attributes:
        benchmark: the subcommand of ``dance-ondevice bench``, or ``soak`` or ``faults`` of make.
        command: the command line that makes it again; folders of the user stand as placeholders.
        data: what it was measured on.
        machine: what it was measured with, as :func:`machine_class` words it.
        date: day of the measurement, ``YYYY-MM-DD``, UTC.
        seed: of everything random; None where nothing is.
        version: of this package.
        note: what a reader must know to judge the result; "" for nothing.
    """

    benchmark: str
    command: str
    data: str
    machine: str
    date: str
    seed: int | None
    version: str
    note: str = ""


@dataclass(frozen=True)
class Result:
    """One file: ``about`` and the keys beside it."""

    about: About
    body: Mapping[str, Any]


def encode_result(about: About, body: object) -> bytes:
    """The JSON of a result.

    Args:
        about: where it comes from.
        body: a mapping or dataclass with string keys, none of them "about"; NaN becomes null.
    """
    keys = msgspec.to_builtins(body, str_keys=True)
    return msgspec.json.format(msgspec.json.encode({"about": about, **keys}), indent=2) + b"\n"


def write_result(path: Path, about: About, body: object) -> None:
    """Write a result; the file appears whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, encode_result(about, body))


def command_line(words: str, options: Mapping[str, object]) -> str:
    """A command with its options; those that are None, False or "" are left out, True is a bare flag."""
    given = [
        name if value is True else f"{name} {value}"
        for name, value in options.items()
        if value is not None and value is not False and value != ""
    ]
    return " ".join(["dance-ondevice", words, *given])


def read_result(path: Path) -> Result:
    """Read a result.

    Raises:
        ResultError: not JSON, or without a complete ``about``; names the file.
        OSError: it cannot be read.
    """
    try:
        raw = decode(path.read_bytes(), dict[str, Any])
        about = msgspec.convert(raw.pop("about"), About)
    except (DocumentError, msgspec.ValidationError) as error:
        raise ResultError(f"{path} is no benchmark result: {error}") from error
    except KeyError as error:
        raise ResultError(f"{path} is no benchmark result: it has no key 'about'") from error
    return Result(about, raw)


def as_body(result: Result, kind: type[T]) -> T:
    """What was measured as a value of ``kind``; keys that it does not know are left out.

    Raises:
        ResultError: a key is missing or of another type.
    """
    try:
        return msgspec.convert(result.body, kind)
    except msgspec.ValidationError as error:
        raise ResultError(f"a result of bench {result.about.benchmark}: {error}") from error


def machine_class(procfs_root: Path = Path("/proc")) -> str:
    """The kind of machine, such as ``x86_64, 4 cores, Intel(R) N100``, without what would name this one."""
    words = [platform.machine() or "unknown", f"{os.cpu_count() or 1} cores"]
    try:
        lines = (procfs_root / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # not Linux: the first two words have to do
    for wanted in ("model name", "Model"):
        named = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == wanted)
        if model := next(named, ""):
            words.append(model)
            break
    return ", ".join(words)
