"""What else decides whether energy may be spent: the battery's charge and the board's temperature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Conditions:
    """Readings of the moment; None where the board has no such sensor or it cannot be read.

    Attributes:
        battery_percent: state of charge of the emptiest battery, percent.
        temperature_c: the hottest thermal zone, degrees Celsius.
    """

    battery_percent: float | None
    temperature_c: float | None


def read_conditions(sysfs: Path) -> Conditions:
    """Read ``class/power_supply`` and ``class/thermal`` below ``sysfs``.

    A battery counts when its type is Battery and its scope is not Device (a mouse, a headset).
    """
    charges = [
        _number(supply / "capacity")
        for supply in _folders(sysfs / "class" / "power_supply")
        if _text(supply / "type") == "Battery" and _text(supply / "scope") != "Device"
    ]
    zones = [_number(zone / "temp") for zone in _folders(sysfs / "class" / "thermal", "thermal_zone")]
    known_charges = [c for c in charges if c is not None and 0 <= c <= 100]
    # A zone that is off reads 0 or a large negative number; one that is broken reads far above boiling.
    known_zones = [t / 1000 for t in zones if t is not None and -40_000 < t < 200_000 and t != 0]
    return Conditions(min(known_charges, default=None), max(known_zones, default=None))


def _folders(parent: Path, prefix: str = "") -> list[Path]:
    try:
        return sorted(p for p in parent.iterdir() if p.name.startswith(prefix))
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
