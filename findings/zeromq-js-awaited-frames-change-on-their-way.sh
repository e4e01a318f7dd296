#!/usr/bin/env bash
# zeromq 6.8.0 (npm): `await socket.send([name, frame])` comes back once the message is in ZeroMQ's queue, and the queue holds the Buffer's
# own memory, not a copy. A program that reads its camera into one Buffer and awaits each send, as a promise suggests, sends the picture of a
# later moment under an earlier frame's name, wherever the receiver or the network is slower for a while. Nothing is said. What is small (16
# bytes here) is copied, so that a test with little data passes; `Buffer.from(frame)`, a copy, is right for all.
#
#   20 full HD frames from one Buffer, each send awaited: another picture than their own 19, of copies 0, of 16 bytes 0
#
# Answered by docs/protocol.md, which asks for bytes of its own for each frame, and by docs/examples/sender.py. Needs python3, node and a
# network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pyzmq==27.3.0'
npm install --silent --no-fund --no-audit --prefix "$folder" 'zeromq@6.8.0' >/dev/null
cd "$folder"
"$folder/venv/bin/python" - "$folder" <<'PY'
import subprocess
import sys

import zmq

FRAMES = 20
SENDER = """
const zmq = require('zeromq');
const [address, bytes, copied] = process.argv.slice(1);
const socket = new zmq.Push({ linger: 60000 });
(async () => {
  await socket.connect(address);
  const frame = Buffer.alloc(Number(bytes));
  for (let number = 1; number <= %d; number++) {
    frame.fill(number);
    await socket.send([String(number), copied === 'yes' ? Buffer.from(frame) : frame]);
  }
  console.log('all sends awaited');
  await new Promise(resolve => process.stdin.once('data', resolve));
  socket.close();
  process.exit(0);
})();
""" % FRAMES


def wrong(size, copied):
    """How many frames arrive with another picture than the number that is their name, where the receiver comes late."""
    address = f"ipc://{sys.argv[1]}/{size}-{copied}"
    node = subprocess.Popen(["node", "-e", SENDER, address, str(size), copied], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert node.stdout.readline(), "the sender ended"
    with zmq.Context() as context, context.socket(zmq.PULL) as receiver:
        receiver.bind(address)
        arrived = [receiver.recv_multipart() for _ in range(FRAMES)]
    node.communicate(b"done")
    return sum(picture != bytes([int(name)]) * size for name, picture in arrived)


seen = wrong(1920 * 1080 * 3, "no"), wrong(1920 * 1080 * 3, "yes"), wrong(16, "no")
print(f"zeromq 6.8.0 (npm), pyzmq {zmq.__version__}: {FRAMES} frames, each send awaited; with another picture than their own: full HD from one "
      f"Buffer {seen[0]}, of copies {seen[1]}, of 16 bytes from one Buffer {seen[2]}")
raise SystemExit(0 if seen[0] > FRAMES // 2 and seen[1:] == (0, 0) else "this has changed")
PY
