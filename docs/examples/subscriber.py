"""Paints the masks of dance-ondevice in the colours that it names, and prints what is in them.

Usage: python subscriber.py [ENDPOINT] [CAMERA] [MASKS]. Needs pyzmq, numpy and OpenCV; writes mask.png.
"""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import zmq

IGNORE = 255


def main(endpoint: str = "tcp://127.0.0.1:5556", camera: str = "front", masks: str = "0") -> int:
    """Show masks until so many have come; 0 for no end."""
    classes: list[str] = []
    colours = np.zeros((256, 3), np.uint8)
    shown = 0
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe(f"mask/{camera}".encode())
        socket.subscribe(f"classes/{camera}".encode())
        socket.connect(endpoint)
        while shown < int(masks) or masks == "0":
            topic, header, *rest = socket.recv_multipart()
            told = json.loads(header)
            if topic.startswith(b"classes/"):
                classes = told["classes"]
                colours[: len(classes)] = np.array(told["palette"], np.uint8)[:, ::-1]  # OpenCV wants BGR
                continue
            if not classes:
                continue  # they are on their way
            mask = cv2.imdecode(np.frombuffer(rest[0], np.uint8), cv2.IMREAD_UNCHANGED)
            cv2.imwrite("mask.png", colours[mask])
            ids, counts = np.unique(mask[mask != IGNORE], return_counts=True)
            shares = sorted(zip(counts / mask.size, ids, strict=True), reverse=True)
            named = [f"{classes[i]} {share:.0%}" for share, i in shares]
            print(f"{told['camera']} {told['seq']}: {', '.join(named)}", flush=True)
            shown += 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
