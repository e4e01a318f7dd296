"""Sends the images of a folder to dance-ondevice, one at a time, and prints what became of each.

Usage: python sender.py FOLDER [ENDPOINT] [CAMERA]. Needs pyzmq alone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import zmq

ENCODINGS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}


def main(folder: str, endpoint: str = "tcp://127.0.0.1:5555", camera: str = "front") -> int:
    """Send every image; returns 1 if one was refused."""
    refused = 0
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.rcvtimeo = 10_000  # milliseconds; then zmq.Again: nobody listens
        socket.connect(endpoint)
        images = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in ENCODINGS)
        for number, image in enumerate(images):
            header = {
                "v": 1,
                "camera": camera,
                "seq": number,
                "captured_at": time.time(),
                "encoding": ENCODINGS[image.suffix.lower()],
            }
            socket.send_multipart([json.dumps(header).encode(), image.read_bytes()])
            answer = json.loads(socket.recv())
            refused += not answer["ok"]
            print(image.name, answer.get("reason") or answer.get("error"))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
