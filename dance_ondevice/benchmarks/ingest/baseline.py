"""The smallest possible receiver of frames, in its own process: it takes them from ZMQ and decodes to grey.

``python -m dance_ondevice.benchmarks.ingest.baseline REDUCTION`` prints its endpoint, then answers each
message at once until its standard input ends. A reduction of 0 decodes nothing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import zmq


def main(arguments: list[str]) -> int:
    """Receive until standard input ends; returns the exit status."""
    # OpenCV decodes without this project's checks, whose cost is part of what is compared.
    import cv2
    import numpy as np

    flags = {1: cv2.IMREAD_GRAYSCALE, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4}
    flag = flags.get(int(arguments[0]))
    cv2.setNumThreads(1)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")
        print(f"tcp://127.0.0.1:{port}", flush=True)
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(sys.stdin.fileno(), zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if sys.stdin.fileno() in ready:
                return 0
            while True:
                try:
                    identity, _, image = router.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    break
                if flag is not None:
                    cv2.imdecode(np.frombuffer(image.buffer, np.uint8), flag)
                router.send_multipart([identity.bytes, b'{"ok":true}'])


@dataclass(frozen=True)
class Loop:
    """A running loop: the endpoint to send to, and its process."""

    endpoint: str
    pid: int


@contextmanager
def receiver(reduction: int) -> Iterator[Loop]:
    """Run the receiver; yields its endpoint and process.

    Args:
        reduction: By how much the grey decode makes the image smaller: 1, 2 or 4; 0 for no decoding.
    """
    command = [sys.executable, "-m", "dance_ondevice.benchmarks.ingest.baseline", str(reduction)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Loop(process.stdout.readline().strip(), process.pid)
    finally:
        process.communicate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
