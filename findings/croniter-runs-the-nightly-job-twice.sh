#!/usr/bin/env bash
# croniter 7.0.0, which reads cron's lines for many Python schedulers, is no cron on the night on which clocks go back: a daily job at
# 02:30 comes twice, an hour apart. Debian's cron (cron(8)) runs jobs of fixed hours once then, and repeats only those with wildcards;
# cronsim 2.8, which follows it, gives one. In spring both run the job that falls into the gap at 03:00. A budget or a
# rotation "once a night" is spent twice. The page on DST says that the start must know its time zone; it did.
#
#   "30 2 * * *" in Europe/Berlin on 2026-10-25: croniter 02:30+0200 and 02:30+0100, cronsim 02:30+0200
#
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'croniter==7.0.0' 'cronsim==2.8' 'tzdata==2026.6'
"$folder/venv/bin/python" - <<'PY'
from datetime import datetime, timedelta
from importlib.metadata import version
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

LINE, zone = "30 2 * * *", ZoneInfo("Europe/Berlin")


def runs(start):
    end = start + timedelta(days=1)
    each = croniter(LINE, start)
    found = []
    for following in (lambda: each.get_next(datetime), CronSim(LINE, start).__next__):
        found.append([])
        while (moment := following()) < end:
            found[-1].append(f"{moment:%H:%M%z}")
    return found


autumn, spring = runs(datetime(2026, 10, 25, tzinfo=zone)), runs(datetime(2026, 3, 29, tzinfo=zone))
print(f"croniter {version('croniter')}, cronsim {version('cronsim')}: in autumn {autumn}, in spring {spring}")
good = autumn == [["02:30+0200", "02:30+0100"], ["02:30+0200"]] and spring == [["03:00+0200"]] * 2
raise SystemExit(0 if good else "this has changed")
PY
