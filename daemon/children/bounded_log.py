"""Copies a child's standard error into a file of bounded size."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

#: Bytes that a log keeps: half from its beginning, where a failure is often explained, half from its end.
LIMIT = 512 << 10
_CHUNK = 64 << 10
#: Seconds between two reads once the first half is full: a child that writes without end is slowed by its
#: full pipe, so that it costs neither disk space nor the daemon's CPU time.
_PAUSE = 0.02


def copy_bounded(
    read: Callable[[int], bytes], path: Path, *, limit: int = LIMIT, pause: Callable[[], object]
) -> None:
    """Append a stream to a file until it ends, keeping no more of it than ``limit`` bytes and one line.

    The first half is written as it comes. The rest goes through memory, and its last half of the limit is
    written when the stream ends, so no more is written to the disk than the file holds. A file that exists
    already (of a resumed round) counts as part of the first half.

    Args:
        read: Returns up to the given number of bytes, and none at the end.
        path: The log file.
        limit: The most bytes to keep.
        pause: Called before each read once the first half is full.
    """
    half = limit // 2
    tail = b""
    left_out = 0
    try:
        with path.open("ab", buffering=0) as file:
            free = max(0, half - file.tell())
            while chunk := read(_CHUNK):
                if free:
                    file.write(chunk[:free])
                    chunk, free = chunk[free:], max(0, free - len(chunk))
                if chunk:
                    left_out += max(0, len(tail) + len(chunk) - half)
                    tail = (tail + chunk)[-half:]
                    pause()
            if left_out:
                file.write(b"\n... %d bytes left out ...\n" % left_out)
            file.write(tail)
    except OSError as error:
        # For example, the disk is full. The round is not affected as long as its trainer's pipe is read.
        log.warning("trainer's log not written path=%s error=%s", path, error)
        while read(_CHUNK):
            pause()


class BoundedLog:
    """A thread that keeps a child's stderr in a bounded file until the child closes it."""

    def __init__(self, stream: IO[bytes], path: Path, *, limit: int = LIMIT) -> None:
        self._stream = stream
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._copy, args=(path, limit), name="trainer-log", daemon=True
        )
        self._thread.start()

    def finish(self, timeout: float = 5.0) -> None:
        """Wait for the last bytes, once the child has ended.

        A grandchild that still holds the pipe open does not delay the daemon: after ``timeout`` seconds the
        rest of the output is lost.
        """
        self._closing.set()
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._stream.close()

    def _copy(self, path: Path, limit: int) -> None:
        descriptor = self._stream.fileno()
        copy_bounded(
            lambda size: os.read(descriptor, size),
            path,
            limit=limit,
            pause=lambda: self._closing.wait(_PAUSE),
        )
