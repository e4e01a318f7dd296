"""Sends the frames of a video or camera to dance-ondevice by vidgear's NetGear.

Usage: python netgear_sender.py SOURCE [HOST] [PORT] [CAMERA]. Needs vidgear, pyzmq, simplejpeg and OpenCV.
"""

from __future__ import annotations

import sys

import cv2
from vidgear.gears.netgear import NetGear

REQUEST_REPLY = 1


def main(source: str, host: str = "127.0.0.1", port: str = "5555", camera: str = "front") -> int:
    """Send every frame, compressed as NetGear does by itself."""
    frames = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    sender = NetGear(address=host, port=port, protocol="tcp", pattern=REQUEST_REPLY, bidirectional_mode=True)
    try:
        while True:
            there, frame = frames.read()
            if not there:
                break
            answer = sender.send(frame, message={"camera": camera})
            if answer is not None:
                print(answer.get("reason") or answer.get("error") or answer, flush=True)
    finally:
        sender.close()
        frames.release()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
