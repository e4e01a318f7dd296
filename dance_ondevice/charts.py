"""Grouped bar charts as SVG, for the pages and pictures that this package writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment, Template

_WIDTH, _HEIGHT = 860, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 8, 34, 48
_WIDEST_BAR = 54.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: its value, 0 or more, what stands above it, and what it says when pointed at."""

    value: float
    label: str = ""
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One colour of bars: its name, the CSS class that fills it, one bar per group."""

    name: str
    css_class: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True)
class Level:
    """A value of the axis with a line across the chart; ``marked`` draws the line as a limit."""

    value: float
    label: str
    marked: bool = False


@dataclass(frozen=True, kw_only=True)
class Group:
    """Bars that stand together: the name below them, and a second line of small print."""

    name: str
    note: str = ""


def environment(package: str) -> Environment:
    """The templates in a package's folder ``templates``; whatever they are given is escaped.

    A name that a template misspells is an error, and not an empty place on the page.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def grouped_bars(
    title: str,
    groups: Sequence[Group],
    series: Sequence[Series],
    levels: Sequence[Level],
    *,
    below: str = "",
    standalone: bool = False,
) -> str:
    """Draw bars side by side in groups over an axis that starts at 0.

    Args:
        title: What the chart shows.
        groups: From left to right.
        series: The bars of each group, in this order.
        levels: Lines across the chart; the highest of them and the highest bar are its top.
        below: What the groups are, below their names.
        standalone: Whether the picture is a file of its own, which needs a title, colours and a background;
            in a page those are the page's.

    Raises:
        ValueError: a series does not have one bar per group, or there is nothing above 0 to draw.
    """
    for one in series:
        if len(one.bars) != len(groups):
            raise ValueError(f"{one.name} has {len(one.bars)} values for {len(groups)} groups")
    top = max(
        (v for v in (*(b.value for s in series for b in s.bars), *(x.value for x in levels))), default=0.0
    )
    if not top > 0 or not math.isfinite(top):
        raise ValueError("a chart needs a level or a bar above 0")
    height, floor = _HEIGHT - _TOP - _BOTTOM, _HEIGHT - _BOTTOM
    slot = (_WIDTH - _LEFT - _RIGHT) / max(len(groups), 1)
    bar = min(_WIDEST_BAR, slot * 0.8 / max(len(series), 1))

    def left(group: int, number: int) -> float:
        return _LEFT + slot * group + (slot - bar * len(series)) / 2 + bar * number

    return _template().render(
        title=title,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        floor=floor,
        below=below,
        standalone=standalone,
        levels=[(floor - height * level.value / top, level) for level in levels],
        bars=[
            (left(g, s), floor - height * one.bars[g].value / top, one.css_class, one.bars[g])
            for g in range(len(groups))
            for s, one in enumerate(series)
        ],
        bar=bar,
        gap=min(2.0, bar * 0.1),
        groups=[(_LEFT + slot * (g + 0.5), group) for g, group in enumerate(groups)],
    )


@cache
def _template() -> Template:
    return environment("dance_ondevice").get_template("bars.svg")
