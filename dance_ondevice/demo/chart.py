"""A grouped bar chart as inline SVG; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 860, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 22, 34


@dataclass(frozen=True)
class Series:
    """One colour of bars: its name, the CSS class that fills it, one value per group, each 0 or more."""

    name: str
    css_class: str
    values: tuple[float, ...]


def grouped_bars(title: str, groups: Sequence[str], series: Sequence[Series]) -> str:
    """Bars side by side in groups, each with its value above it; the axis starts at 0.

    Raises:
        ValueError: a series does not have one value per group.
    """
    for one in series:
        if len(one.values) != len(groups):
            raise ValueError(f"{one.name} has {len(one.values)} values for {len(groups)} groups")
    highest = max((v for s in series for v in s.values), default=0.0)
    top = max(0.1, math.ceil(highest * 10 - 1e-9) / 10)
    height = _HEIGHT - _TOP - _BOTTOM
    floor = _HEIGHT - _BOTTOM
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
    ]
    ticks = round(top * 10)
    for tick in range(0, ticks + 1, 1 if ticks <= 5 else 2):
        y = floor - height * tick / ticks
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="axis" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick / 10:.1f}</text>'
        )
    slot = (_WIDTH - _LEFT - _RIGHT) / max(len(groups), 1)
    bar = min(54.0, slot * 0.8 / max(len(series), 1))
    for g, group in enumerate(groups):
        left = _LEFT + slot * g
        parts += [
            _bar(
                f"{group}, {one.name}: {one.values[g]:.3f}",
                one.css_class,
                value=one.values[g],
                size=height * one.values[g] / top,
                x=left + (slot - bar * len(series)) / 2 + bar * s,
                width=bar,
            )
            for s, one in enumerate(series)
        ]
        parts.append(
            f'<text x="{left + slot / 2:.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(group)}</text>'
        )
    parts.append("</svg>")
    return "".join(parts)


def _bar(title: str, css_class: str, *, value: float, size: float, x: float, width: float) -> str:
    y = _HEIGHT - _BOTTOM - size
    return (
        f'<rect class="{escape(css_class)}" x="{x + 2:.1f}" y="{y:.1f}" width="{width - 4:.1f}" '
        f'height="{size:.1f}" rx="2"><title>{escape(title)}</title></rect>'
        f'<text x="{x + width / 2:.1f}" y="{y - 6:.1f}" text-anchor="middle">{value:.2f}</text>'
    )
