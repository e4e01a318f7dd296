#!/usr/bin/env bash
# imagezmq 1.2.0: in PUB/SUB mode `send_image` returns at once and hands ZeroMQ the array's own memory, not a copy. What the program writes
# into that array afterwards, as one does that reads the camera into one buffer (`capture.read(frame)`), is in the frames that still
# wait to be sent: they arrive under their own names with the picture of a later moment, or with parts of several. Nothing is said, and
# small images, which ZeroMQ copies, or a receiver that keeps up, let a test pass. REQ/REP, where the answer is waited for, is right.
#
#   20 full HD frames from one buffer, arrived with another picture than their own: PUB/SUB 19, of copies 0, REQ/REP 0
#
# Answered by docs/examples/sender.py: what is sent is a compressed image, bytes of its own for each frame.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'imagezmq==1.2.0' 'pyzmq==27.3.0' 'numpy==2.2.6'
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
import threading
from importlib.metadata import version

import imagezmq
import numpy as np

FRAMES = 20


def wrong(place, copied=False, replies=False):
    """How many frames hold something else than the number that is their name."""
    address = f"ipc://{sys.argv[1]}/{place}"
    arrived = []

    def receive():
        while len(arrived) < FRAMES:
            name, image = hub.recv_image()
            if name != "hello":
                arrived.append((name, image))
            if replies:
                hub.send_reply()

    if replies:
        hub = imagezmq.ImageHub(open_port=address, REQ_REP=True)
        sender = imagezmq.ImageSender(connect_to=address, REQ_REP=True)
    else:
        sender = imagezmq.ImageSender(connect_to=address, REQ_REP=False)
        hub = imagezmq.ImageHub(open_port=address, REQ_REP=False)
        while not hub.zmq_socket.poll(100):  # a subscription takes a moment
            sender.send_image("hello", np.zeros((1, 1), np.uint8))
    receiver = threading.Thread(target=receive)
    if replies:
        receiver.start()
    buffer = np.zeros((1080, 1920, 3), np.uint8)
    for number in range(1, FRAMES + 1):
        buffer[:] = number
        sender.send_image(str(number), buffer.copy() if copied else buffer)
    if not replies:
        receiver.start()
    receiver.join()
    hub.zmq_socket.close(0)
    sender.zmq_socket.close(0)
    return sum(bool((image != int(name)).any()) for name, image in arrived)


seen = wrong("published"), wrong("copied", copied=True), wrong("answered", replies=True)
print(f"imagezmq {version('imagezmq')}, pyzmq {version('pyzmq')}: of {FRAMES} frames with another picture than their own: PUB/SUB {seen[0]}, "
      f"of copies {seen[1]}, REQ/REP {seen[2]}")
raise SystemExit(0 if seen[0] > FRAMES // 2 and seen[1:] == (0, 0) else "this has changed")
PY
