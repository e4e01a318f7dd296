"""Makes a backup beside the daemon, one at a time, and hands it out in pieces.

The console never touches the state folder: ``dance-ondevice backup`` writes the file there as the daemon's
user, and whoever downloads it gets it through the socket. It is removed after the download, with the next
one, and at the daemon's end.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

__all__ = ["PIECE", "CopyRefused", "Copying"]

#: Bytes of a piece: an answer of the socket holds it in base64.
PIECE = 256 << 10
_FOLDER, _FILE = ".backup", "state.tar"
_MOST_WORDS = 2000


class CopyRefused(RuntimeError):  # noqa: N818 - read as a state
    """A backup cannot be made or read; the message says why."""


class Copying:
    """Owner of at most one process and one file, for the thread of the console's socket, which closes it."""

    def __init__(self, root: Path, options: Sequence[str], spare: Callable[[], int]) -> None:
        """Make backups of a state folder.

        Args:
            root: The state folder.
            options: Options that name configuration and state folder, as on the command line.
            spare: Returns the bytes that a backup may take on the disk.
        """
        self._folder = root / _FOLDER
        self._options = list(options)
        self._spare = spare
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._error = ""
        shutil.rmtree(self._folder, ignore_errors=True)  # of a daemon that was killed

    def start(self, needed: int) -> dict[str, Any]:
        """Begin a backup, unless one is being made.

        Args:
            needed: Bytes that it will take, about.

        Raises:
            CopyRefused: There is no room for it, or it cannot be started.
        """
        if self.report()["running"]:
            return self.report()
        self.close()
        if needed > self._spare():
            raise CopyRefused(
                f"a backup takes about {needed / 1e6:.0f} MB here until it is downloaded, and the disk has "
                "no room for it; run `dance-ondevice backup FILE` with a FILE on another disk"
            )
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        command = [
            sys.executable,
            "-m",
            "dance_ondevice",
            "backup",
            str(self._folder / _FILE),
            *self._options,
        ]
        try:
            self._folder.mkdir(mode=0o700)
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said
            )
        except OSError as error:
            self.close()
            raise CopyRefused(f"no backup can be made: {error.strerror or error}") from error
        return self.report()

    def report(self) -> dict[str, Any]:
        """``running``; ``bytes`` of the file that is ready, else None; and ``error`` of the last one."""
        if self._process is not None and self._process.poll() is not None:
            self._collect(self._process)
        size = None
        if self._process is None:
            with contextlib.suppress(FileNotFoundError):
                size = (self._folder / _FILE).stat().st_size
        return {"running": self._process is not None, "bytes": size, "error": self._error}

    def piece(self, offset: int) -> bytes:
        """At most ``PIECE`` bytes of the file from ``offset`` on; empty at its end.

        Raises:
            CopyRefused: No backup is ready.
        """
        if self.report()["bytes"] is None or offset < 0:
            raise CopyRefused("no backup is ready: begin another")
        with (self._folder / _FILE).open("rb") as file:
            file.seek(offset)
            return file.read(PIECE)

    def close(self) -> None:
        """End what runs, and remove the file."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._said is not None:
            self._said.close()
            self._said = None
        self._error = ""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _collect(self, process: subprocess.Popen[bytes]) -> None:
        assert self._said is not None
        with self._said as said:
            said.seek(0)
            words = said.read(_MOST_WORDS).decode(errors="replace").strip()
        self._process = self._said = None
        self._error = ""
        if process.returncode != 0:
            self._error = words or f"`dance-ondevice backup` ended with status {process.returncode}"
            shutil.rmtree(self._folder, ignore_errors=True)
