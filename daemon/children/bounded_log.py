"""What a child process says on stderr, in a file that stays small however much that is."""

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
#: Seconds between two reads once the first half is full: a child that spews is slowed by its full pipe, so
#: that it costs neither the disk nor the daemon's cores.
_PAUSE = 0.02


def copy_bounded(
    read: Callable[[int], bytes], path: Path, *, limit: int = LIMIT, pause: Callable[[], object]
) -> None:
    """Append a stream to a file until it ends, and keep no more of it than ``limit`` bytes and a line.

    The first half is written as it comes. What follows goes through memory, of which the last half is written
    when the stream ends; so the disk sees no more than the file holds. A file that is there already (a round
    that goes on) counts as part of the first half.

    Args:
        read: returns up to so many bytes, and none at the end.
        path: the log.
        limit: bytes.
        pause: called before each read once the first half is full.
    """
    half = limit // 2
    tail = b""
    left_out = 0
    try:
        with path.open("ab", buffering=0) as file:
            room = max(0, half - file.tell())
            while chunk := read(_CHUNK):
                if room:
                    file.write(chunk[:room])
                    chunk, room = chunk[room:], max(0, room - len(chunk))
                if chunk:
                    left_out += max(0, len(tail) + len(chunk) - half)
                    tail = (tail + chunk)[-half:]
                    pause()
            if left_out:
                file.write(b"\n... %d bytes left out ...\n" % left_out)
            file.write(tail)
    except OSError as error:
        # The disk is full, say: the round is none the worse, as long as somebody reads what its trainer says.
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

        A grandchild that still holds the pipe does not hold up the daemon: after ``timeout`` seconds its
        words are lost.
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
