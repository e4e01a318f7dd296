#!/usr/bin/env bash
# starlette 1.10.0, uvicorn 0.54.0: a route that is declared for GET answers HEAD too, by running the same handler. One expects the headers
# to be all of it. The body is made as well, to the end: a `StreamingResponse` has its generator drawn dry, at full speed because nobody
# reads, and the server throws every piece away. What the generator does on its way, reading an archive from a slow card, taking frames
# out of a queue, marking records as handed over, is done for a `curl -I`, a proxy's check or a monitor, which see 0 bytes.
#
#   GET: 1000 pieces made, 1000000 bytes received; HEAD: 1000 pieces made, 0 bytes received, status 200
#
# Answered by dance_ondevice/daemon/console/board.py and live.py, which answer HEAD without a body being made. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'starlette==1.10.0' 'uvicorn==0.54.0' 'h11==0.16.0'
"$folder/venv/bin/python" - <<'PY'
import http.client
import socket
import threading
import time
from importlib.metadata import version

import uvicorn
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

made, ended = [], threading.Event()


async def pieces():
    """A thousand pieces, each noted when it is made."""
    for index in range(1000):
        made.append(index)
        yield bytes(1000)
    ended.set()


async def archive(request):
    return StreamingResponse(pieces())


listening = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(Starlette(routes=[Route("/archive", archive)]), log_level="warning"))
thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
thread.start()
while not server.started:
    time.sleep(0.01)
seen = {}
for method in ("GET", "HEAD"):
    made.clear()
    ended.clear()
    connection = http.client.HTTPConnection(*listening.getsockname(), timeout=30)
    connection.request(method, "/archive")
    answer = connection.getresponse()
    received = len(answer.read())
    ended.wait(10)
    connection.close()
    seen[method] = (answer.status, len(made), received)
server.should_exit = True
thread.join()
print("starlette", version("starlette"), "uvicorn", version("uvicorn"), "status, pieces made, bytes received:", seen)
raise SystemExit(0 if seen == {"GET": (200, 1000, 1000000), "HEAD": (200, 1000, 0)} else "this has changed")
PY
