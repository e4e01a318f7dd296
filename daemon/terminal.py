"""Input and output of commands: parsing options, printing tables for people and JSON for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import click
import msgspec


def print_json(value: object) -> None:
    """Print a value as indented JSON; values outside JSON (such as NaN) become null."""
    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())


def print_table(title: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Print rows under their column names; None shows as a dash, and numbers are right-aligned."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [tuple(row) for row in rows]
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], (int, float, type(None))) for row in lines)
        table.add_column(column, justify="right" if numbers and lines else "left", overflow="fold")
    for row in lines:
        table.add_row(*(Text(show(value)) for value in row))
    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe or file has no width, and cut words would be lost
        console = Console(highlight=False, width=200)
    console.print(table)


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
        return f"{value:.1f}" if abs(value) >= 1000 else f"{value:.4g}"
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
