"""Draws a simulation as one self-contained SVG: joules and rounds by day."""

from __future__ import annotations

from collections.abc import Sequence

from dance_ondevice.daemon.planning.simulation import Day

_WIDTH, _HEIGHT = 900, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 40, 45
#: The most days that are named under their bars.
_LABELS = 15


def svg(days: Sequence[Day], budget_joules: float) -> str:
    """The SVG text.

    Args:
        days: At least one day.
        budget_joules: The budget of a day, drawn as a line.
    """
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    most = max(budget_joules, *(day.joules for day in days), 1.0) * 1.05
    slot = width / len(days)
    base = _TOP + height

    def y(joules: float) -> float:
        return base - height * joules / most

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">Joules of training by simulated day '
        "(number of rounds above the bar)</text>",
        f'<line x1="{_LEFT}" y1="{base}" x2="{_WIDTH - _RIGHT}" y2="{base}" stroke="#444"/>',
        f'<line x1="{_LEFT}" y1="{y(budget_joules):.1f}" x2="{_WIDTH - _RIGHT}" y2="{y(budget_joules):.1f}" '
        'stroke="#c0392b" stroke-dasharray="6 4"/>',
        _text(_LEFT - 6, y(budget_joules) + 4, f"{budget_joules:,.0f} J", anchor="end", fill="#c0392b"),
        _text(_LEFT - 6, base + 4, "0", anchor="end"),
    ]
    every = -(-len(days) // _LABELS)
    for index, day in enumerate(days):
        left, top = _LEFT + slot * index, y(day.joules)
        parts.append(
            f'<rect x="{left + slot * 0.1:.2f}" y="{top:.1f}" width="{slot * 0.8:.2f}" '
            f'height="{base - top:.1f}" fill="#2e86ab"><title>day {day.day}: {day.joules:,.0f} J, '
            f"{day.rounds} rounds, {day.arrived} new samples, {day.balance:,.0f} J left</title></rect>"
        )
        if index % every == 0:
            parts.append(_text(left + slot / 2, base + 18, str(day.day)))
            if day.rounds:
                parts.append(_text(left + slot / 2, top - 4, str(day.rounds), fill="#2e86ab"))
    parts.append(_text(_LEFT + width / 2, _HEIGHT - 8, "day"))
    return "\n".join([*parts, "</svg>\n"])


def _text(x: float, y: float, text: str, *, anchor: str = "middle", fill: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{text}</text>'
