#!/usr/bin/env bash
# tensorboard 2.21.0: `EventAccumulator`, by which a program reads back what `SummaryWriter` wrote, holds 10,000 values of a curve at most. Of
# more it keeps a random choice, with the last one always among them, so that the curve looks whole: the last value and a plot are right, and
# a sum, a count or a maximum is not. Joules of single steps, summed over a long run, are a third of what was spent. Nothing is said.
# `size_guidance={"scalars": 0}` keeps them all.
#
#   30,000 steps of 1 J: read back 10000 values, 10000 J, last step 29999; with size_guidance 0: 30000 J
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tensorboard==2.21.0' 'setuptools==80.9.0' 'numpy==2.2.6'
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import tensorboard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

STEPS = 30000
writer = EventFileWriter("log")
for step in range(STEPS):
    writer.add_event(Event(step=step, wall_time=step, summary=Summary(value=[Summary.Value(tag="joules", simple_value=1.0)])))
writer.close()
seen = []
for more in ({}, {"size_guidance": {"scalars": 0}}):
    read = EventAccumulator("log", **more)
    read.Reload()
    values = read.Scalars("joules")
    seen.append((len(values), sum(each.value for each in values), values[-1].step))
    print(f"tensorboard {tensorboard.__version__} {more}: {STEPS} steps of 1 J: {seen[-1][0]} values, {seen[-1][1]:.0f} J, last step {seen[-1][2]}")
raise SystemExit(0 if seen == [(10000, 10000.0, 29999), (30000, 30000.0, 29999)] else "this has changed")
PY
