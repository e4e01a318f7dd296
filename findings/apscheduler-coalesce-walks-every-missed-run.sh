#!/usr/bin/env bash
# APScheduler 3.11.2 with coalesce=True runs a job once however many runs were missed, but it first walks through every
# missed run one by one: a board whose clock starts in 1970 and is then set right computes half a million fire times
# of an hourly job before that one run (and holds all of them in a list).
# Seen: "runs: 1, fire times computed: about 500 thousand". The guess from the option's name: a handful.
# Answered by daemon/system/schedule.py, whose trigger knows the monotonic clock and never lists missed runs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'APScheduler==3.11.2'
"$folder/venv/bin/python" - <<'PY'
import threading
from datetime import datetime, timezone
from importlib.metadata import version

from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

computed = 0


class Counting(IntervalTrigger):
    def get_next_fire_time(self, previous, now):
        global computed
        computed += 1
        return super().get_next_fire_time(previous, now)


runs, done = [], threading.Event()
scheduler = BackgroundScheduler(timezone=timezone.utc)
scheduler.add_listener(lambda event: done.set(), EVENT_JOB_EXECUTED)
scheduler.add_job(
    lambda: runs.append(1), Counting(hours=1, timezone=timezone.utc), coalesce=True, misfire_grace_time=None,
    next_run_time=datetime(1970, 1, 1, tzinfo=timezone.utc),
)
scheduler.start()
assert done.wait(300), "the job did not run"
scheduler.shutdown()
print(f"APScheduler {version('APScheduler')}: runs: {len(runs)}, fire times computed: {computed // 1000} thousand")
raise SystemExit(0 if len(runs) == 1 and computed > 400_000 else "this has changed")
PY
