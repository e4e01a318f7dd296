#!/usr/bin/env bash
# astral 3.2, from which solar boards take their day: `sunset(observer, date)` without a `tzinfo` is the sunset that falls on that date in
# UTC. West of New York, and in Japan and Australia by its sunrise, that is the one of another day: the sunset lies before the sunrise on
# every day of the year, `daylight` is a pair whose end is before its start, and hours of sun come out negative. Where the sunset
# wanders over midnight UTC, a date between has none, and a ValueError says so in New York in May: the error by which
# one tells a polar night. With the place's own `tzinfo` both are right. London, where one tries, shows none of it.
#
#   days of 2026 whose sunset lies before the sunrise, and dates without one
#   London 0, none    Los Angeles 365, none    Tokyo 365, none    New York 93, 2026-05-09    New York in its own time zone 0, none
#
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'astral==3.2' 'tzdata==2026.6'
"$folder/venv/bin/python" - <<'PY'
from datetime import date, timedelta
from importlib.metadata import version
from zoneinfo import ZoneInfo

from astral import Observer
from astral.sun import daylight

PLACES = {
    "London": (51.5, -0.1, None),
    "Los Angeles": (34.0, -118.0, None),
    "Tokyo": (35.7, 139.7, None),
    "New York": (40.7, -74.0, None),
    "New York in its own time zone": (40.7, -74.0, "America/New_York"),
}
print(f"astral {version('astral')}: days of 2026 whose sunset lies before the sunrise, and dates without one")
seen, good = {}, True
for name, (latitude, longitude, zone) in PLACES.items():
    before, without = 0, []
    for day in (date(2026, 1, 1) + timedelta(n) for n in range(365)):
        try:
            start, end = daylight(Observer(latitude, longitude), day, **({"tzinfo": ZoneInfo(zone)} if zone else {}))
            before += end < start
        except ValueError as error:
            without.append((str(day), str(error)))
    seen[name] = (before, [day for day, _ in without])
    print(name, before, *without)
    good &= all("Unable to find a sunset" in words for _, words in without)
expected = {
    "London": (0, []),
    "Los Angeles": (365, []),
    "Tokyo": (365, []),
    "New York": (93, ["2026-05-09"]),
    "New York in its own time zone": (0, []),
}
raise SystemExit(0 if good and seen == expected else "this has changed")
PY
