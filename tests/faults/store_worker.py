"""A process that stores frames as fast as it can, and says which were acked, until it is killed.

Usage: store_worker.py STATE_DIR FIRST QUOTA_BYTES
"""

from __future__ import annotations

import os
import random
import struct
import sys
import threading
import zlib
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.store.samples import NewSample
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StateLock, StatePaths, sample_id

WIDTH, HEIGHT = 80, 60


def png(seed: int, channels: int) -> bytes:
    """A picture that follows from its number, made without loading OpenCV; a label has one channel."""
    noise = random.Random(seed)
    line = WIDTH * channels
    raw = b"".join(
        b"\0" + (noise.randbytes(line) if channels == 3 else bytes([seed % 11]) * line) for _ in range(HEIGHT)
    )
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(raw, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def frame(number: int) -> NewSample:
    """Frame ``number``: two cameras, a new day every 40 frames, a label with every third."""
    camera = "left" if number % 2 else "right"
    at = 1_760_000_000.0 + number * 2160
    labelled = number % 3 == 0
    return NewSample(
        id=sample_id(camera, at, number),
        camera=camera,
        seq=number,
        captured_at=at,
        received_at=at,
        data=png(number, 3),
        format="png",
        width=WIDTH,
        height=HEIGHT,
        native_width=WIDTH,
        native_height=HEIGHT,
        score=0.5,
        quantile=0.5,
        scale=1.0,
        weight=1.0,
        reason="test",
        label=png(number, 1) if labelled else None,
        label_source="sender" if labelled else None,
        classes=(number % 11,) if labelled else None,
    )


def main(state_dir: Path, first: int, quota_bytes: int) -> None:
    """Store frames from ``first`` on, each third labelled late, without an end."""
    paths = StatePaths(state_dir)
    slots = threading.Semaphore(24)

    def announce(word: str, number: int, future: Future[Any]) -> None:
        slots.release()
        if future.exception() is None:
            # One system call, so that a kill cannot cut the line: print may make several.
            os.write(sys.stdout.fileno(), f"{word} {number}\n".encode())

    with StateLock(paths):
        store = Store(paths, quota_bytes=quota_bytes, min_free_bytes=0)
        store.start()
        number = first
        while True:
            sample = frame(number)
            slots.acquire()
            store.add_sample(sample).add_done_callback(lambda f, n=number: announce("ack", n, f))  # type: ignore[misc]
            if number % 3 == 1:
                slots.acquire()
                late = store.add_label(sample.id, png(number, 1), (number % 11,), "import")
                late.add_done_callback(lambda f, n=number: announce("label", n, f))  # type: ignore[misc]
            number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
