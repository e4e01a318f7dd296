"""Charts as numbers for templates: where lines and bars lie in a drawing of fixed size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["HEIGHT", "WIDTH", "energy_chart", "miou_chart"]

WIDTH, HEIGHT = 720, 200
_LEFT, _TOP, _BOTTOM = 40, 12, 24
_WORKLOADS = ("training", "labelling", "inference", "ingest", "service")
_FEWEST_BARS = 7


def miou_chart(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """mIoU of the live model after each round against the first model's, oldest left; None without any."""
    known = [each for each in reversed(rounds) if each["miou_after"] is not None]
    if not known:
        return None
    live = [
        each["miou_after"] if each["outcome"] == "promoted" else each["miou_before"] or each["miou_after"]
        for each in known
    ]
    frozen = [each["miou_frozen"] for each in known]
    values = [value for value in (*live, *frozen) if value is not None]
    low, high = max(0.0, min(values) - 0.05), min(1.0, max(values) + 0.05)
    step = (WIDTH - _LEFT - 20) / max(1, len(known) - 1)

    def at(number: int, value: float) -> tuple[float, float]:
        share = (value - low) / max(1e-9, high - low)
        up = share * (HEIGHT - _TOP - _BOTTOM)
        return round(_LEFT + 10 + number * step, 1), round(HEIGHT - _BOTTOM - up, 1)

    def line(series: Sequence[float | None]) -> str:
        points = [at(number, value) for number, value in enumerate(series) if value is not None]
        return " ".join(f"{x},{y}" for x, y in points)

    return {
        "width": WIDTH,
        "height": HEIGHT,
        "live": line(live),
        "frozen": line(frozen),
        "points": [
            {"x": at(n, value)[0], "y": at(n, value)[1], "round": known[n]} for n, value in enumerate(live)
        ],
        "ticks": [
            {"y": at(0, value)[1], "text": f"{100 * value:.0f} %"} for value in (low, (low + high) / 2, high)
        ],
        "left": _LEFT,
    }


def energy_chart(rows: Sequence[Mapping[str, Any]], span: str) -> dict[str, Any] | None:
    """A stacked bar of joules by workload for each ``day`` or ``hour``, oldest left; None without any."""
    sums: dict[str, dict[str, float]] = {}
    for row in rows:
        of_day = sums.setdefault(row[span], {})
        if row["joules"] > 0:  # what has used nothing needs no place in the legend
            of_day[row["workload"]] = of_day.get(row["workload"], 0.0) + row["joules"]
    if not sums:
        return None
    most = max(sum(of_day.values()) for of_day in sums.values()) or 1.0
    names = [name for name in _WORKLOADS if any(name in of_day for of_day in sums.values())]
    names += sorted({name for of_day in sums.values() for name in of_day} - set(names))
    width = (WIDTH - _LEFT - 10) / max(_FEWEST_BARS, len(sums))
    gap = min(8.0, width / 4)
    # Of many bars every second or third one is named, or their names would run into each other.
    every = -(-len(sums) * 50 // (WIDTH - _LEFT))
    height = HEIGHT - _TOP - _BOTTOM
    bars = []
    for number, day in enumerate(sorted(sums)):
        top = float(HEIGHT - _BOTTOM)
        parts = []
        for name in names:
            tall = sums[day].get(name, 0.0) / most * height
            top -= tall
            parts.append({"workload": name, "y": round(top, 1), "height": round(tall, 1)})
        x = round(_LEFT + number * width + gap / 2, 1)
        whole = sum(sums[day].values())
        bars.append(
            {
                "name": day,
                "short": "" if number % every else day[11:16] if span == "hour" else day[5:],
                "x": x,
                "width": round(width - gap, 1),
                "parts": parts,
                "sum": whole,
            }
        )
    return {"width": WIDTH, "height": HEIGHT, "bars": bars, "workloads": names, "most": most, "left": _LEFT}
