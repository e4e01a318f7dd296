"""Values of command line options that several commands take: names between commas, sizes of images."""

from __future__ import annotations

from collections.abc import Callable

import click


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
