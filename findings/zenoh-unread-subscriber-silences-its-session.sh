#!/usr/bin/env bash
# eclipse-zenoh 1.10.2: what `declare_subscriber(key)` returns holds 256 messages. When nobody reads them (a task that ended, a camera that
# is not looked at for the moment), the next message is not dropped, as ZeroMQ and ROS would do: the thread that receives for the whole
# session waits for room. Every other subscriber of that session, with a callback or not, hears nothing more, the
# sender's `put` returns as before, and nothing is logged. With `handlers.RingChannel(256)` the same program goes on.
#
#   of 100 messages on another key after 1000 that nobody read: default 0, RingChannel 100 (a busy machine drops a few); put raised nothing
#
# Not used here: frames and masks go over ZMQ, where each peer has a queue of its own (daemon/wire).
# Needs python3 and a network; talks to itself on loopback. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'eclipse-zenoh==1.10.2'
cat >"$folder/once.py" <<'PY'
import json
import socket
import sys
import threading

import zenoh


def configuration(kind, endpoint):
    found = zenoh.Config()
    found.insert_json5("scouting/multicast/enabled", "false")
    found.insert_json5(f"{kind}/endpoints", json.dumps([endpoint]))
    if kind == "connect":
        found.insert_json5("listen/endpoints", "[]")
    return found


with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    endpoint = f"tcp/127.0.0.1:{probe.getsockname()[1]}"
sender = zenoh.open(configuration("listen", endpoint))
receiver = zenoh.open(configuration("connect", endpoint))
handler = [] if sys.argv[1] == "default" else [zenoh.handlers.RingChannel(256)]
unread = receiver.declare_subscriber("camera/unread", *handler)
heard, first, all_heard = [], threading.Event(), threading.Event()


def hear(sample):
    heard.append(sample)
    first.set()
    if len(heard) >= before + 100:
        all_heard.set()


before = 10**9
other = receiver.declare_subscriber("camera/other", hear)
while not first.wait(0.1):  # until the two have found each other
    sender.put("camera/other", b"x")
while True:  # until what was sent meanwhile has come
    before = len(heard)
    if not threading.Event().wait(1.0) and len(heard) == before:
        break
for _ in range(1000):
    sender.put("camera/unread", bytes(100))
for _ in range(100):
    sender.put("camera/other", b"x")
all_heard.wait(10)
print(len(heard) - before, flush=True)
# the session that waits cannot be closed, so the process is left as it is
import os

os._exit(0)
PY
default=$("$folder/venv/bin/python" "$folder/once.py" default)
ring=$("$folder/venv/bin/python" "$folder/once.py" ring)
release=$("$folder/venv/bin/python" -c 'from importlib.metadata import version; print(version("eclipse-zenoh"))')
echo "eclipse-zenoh $release: of 100 messages on another key after 1000 that nobody read: default $default, RingChannel $ring"
if [ "$default" != 0 ] || [ "$ring" -lt 50 ]; then
  echo "this has changed" >&2
  exit 1
fi
