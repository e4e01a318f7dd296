#!/usr/bin/env bash
# APScheduler 3.11.3: a job with the trigger "interval" is due at a moment of the wall clock. When that clock is set back by an hour, as by
# NTP on a board whose clock ran ahead, a job of every second does not run for an hour: nothing is logged and nothing is "misfired".
#
#   runs in 4 s: 4 before the clock was set back by an hour, 0 after it
#
# Answered by daemon/system/schedule.py, whose triggers count on the monotonic clock and are made to follow when the wall clock was set.
# Needs python3 and a network; the clock is moved for this process alone, by time-machine. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'APScheduler==3.11.3' 'tzlocal==5.4.5' 'time-machine==3.6.0'
"$folder/venv/bin/python" - <<'PY'
import datetime
import time

import apscheduler
import time_machine
from apscheduler.schedulers.background import BackgroundScheduler

runs = []
scheduler = BackgroundScheduler(timezone="UTC")
scheduler.add_job(lambda: runs.append(1), "interval", seconds=1)
scheduler.start()
time.sleep(4.5)
before = len(runs)
with time_machine.travel(datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1), tick=True):
    time.sleep(4.5)
    after = len(runs) - before
scheduler.shutdown()
print(f"APScheduler {apscheduler.version}: runs in 4 s: {before} before the clock was set back by an hour, {after} after it")
assert before >= 2
assert after == 0, "this has changed"
PY
