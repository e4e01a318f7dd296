"""Input and output of commands: parsing options, printing tables for people and JSON for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

import click
import msgspec

#: Progress is told at most so often, on a terminal and in a pipe.
_TERMINAL_SECONDS = 1.0
_PIPE_SECONDS = 10.0
#: Values of a table's column up to this length, such as ids, are not broken; longer ones are sentences.
_SHORT = 40
_SENTENCE = 24


def print_json(value: object) -> None:
    """Print a value as indented JSON; values outside JSON (such as NaN) become null."""
    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())


def print_table(title: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Print rows under their column names; None shows as a dash, and numbers are right-aligned.

    Where they do not fit the terminal, the last columns of short values go, and a line below names them: a
    name that is cut over several lines can neither be read nor copied. The first column always stays, and so
    do columns of sentences, which may be wrapped.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    given = [tuple(row) for row in rows]
    lines = [[show(value) for value in row] for row in given]
    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe or file has no width, and cut words would be lost
        console = Console(highlight=False, width=200)
    widths = [
        max(cell_len(line) for text in (column, *(row[index] for row in lines)) for line in text.split("\n"))
        for index, column in enumerate(columns)
    ]
    shown, whole = _fitting(widths, console.width)
    table = Table(title=title, title_justify="left")
    for index in shown:
        numbers = all(isinstance(row[index], (int, float, type(None))) for row in given)
        table.add_column(
            columns[index],
            justify="right" if numbers and lines else "left",
            overflow="fold",
            no_wrap=whole and widths[index] <= _SHORT,
        )
    for row in lines:
        table.add_row(*(Text(row[index]) for index in shown))
    console.print(table)
    if len(shown) < len(columns):
        left_out = ", ".join(name for index, name in enumerate(columns) if index not in shown)
        click.echo(f"not shown for want of width: {left_out}")


def _fitting(widths: Sequence[int], room: int) -> tuple[list[int], bool]:
    """Indices of the columns that are shown in so many characters, and whether their short values stay whole.

    Of a sentence, some words a line are enough.
    """
    shown = list(range(len(widths)))
    taken = [min(width, _SENTENCE) if width > _SHORT else width for width in widths]
    # A column takes three characters more for its frame, the table one.
    while sum(taken[index] + 3 for index in shown) + 1 > room:
        short = [index for index in shown[1:] if widths[index] <= _SHORT]
        if not short:
            return shown, False
        shown.remove(short[-1])
    return shown, True


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line, in two columns."""
    lines = [(name, show(value)) for name, value in pairs]
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        click.echo(f"{name:<{width}}  {value}")


def show(value: object) -> str:
    """A value for people: None as a dash, floats with four significant figures, sequences with commas."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if abs(value) >= 1000:
            return f"{value:.1f}"
        return f"{value:.4g}" if abs(value) >= 1e-9 else "0"  # what rounding leaves of a sum is no figure
    if isinstance(value, (list, tuple)):
        return ", ".join(map(show, value)) or "-"
    return str(value)


def show_time(seconds: float | None) -> str | None:
    """A wall-clock time as local ``YYYY-MM-DD HH:MM:SS``."""
    from datetime import datetime

    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def show_bytes(count: float | None) -> str | None:
    """A count of bytes with a binary unit."""
    if count is None:
        return None
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def comma_names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """Names between commas; a callback of click."""
    return tuple(name.strip() for name in value.split(",") if name.strip())


def size_of(
    least: int,
) -> Callable[[click.Context, click.Parameter, str | None], tuple[int, int] | None]:
    """A callback of click that turns ``WIDTHxHEIGHT`` into (height, width) in pixels; None stays None.

    Args:
        least: pixels that each side must have.
    """

    def parse(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
        if value is None:
            return None
        width, cross, height = value.partition("x")
        if not (cross and width.isdecimal() and height.isdecimal()):
            raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT, such as 480x360")
        if min(int(width), int(height)) < least:
            raise click.BadParameter(f"{value}: both sides must be {least} pixels or more")
        return int(height), int(width)

    return parse


class Waiting:
    """Tells on the standard error how far something is that a command waits for.

    On a terminal it is one line that changes, elsewhere a line now and then.
    """

    def __init__(
        self, *, stream: TextIO | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._monotonic = monotonic
        self._started = monotonic()
        self._said_at: float | None = None
        self._width = 0

    @property
    def seconds(self) -> float:
        """Seconds since the wait began."""
        return self._monotonic() - self._started

    def say(self, text: str) -> None:
        """Print the progress, unless it was printed a moment ago."""
        now = self._monotonic()
        every = _TERMINAL_SECONDS if self._terminal else _PIPE_SECONDS
        if self._said_at is not None and now - self._said_at < every:
            return
        self._said_at = now
        line = f"{self.seconds:.0f} s: {text}"
        if not self._terminal:
            self._stream.write(f"{line}\n")
        else:
            self._stream.write(f"\r{line:<{self._width}}")
            self._width = len(line)
        self._stream.flush()

    def close(self) -> None:
        """Clear the line on a terminal."""
        if self._terminal and self._width:
            self._stream.write(f"\r{'':<{self._width}}\r")
            self._stream.flush()
