"""The state directory: its paths, and the lock of the one daemon that uses it."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType

#: Valid camera names: they name folders, so they have no separators and no leading dot.
CAMERA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

_ID_NUMBERS = re.compile(r"(-?[0-9]{1,19})-(-?[0-9]{1,19})")
_INT64 = 2**63  # the first integer that SQLite cannot hold
_DAY = 86_400  # seconds
_LAST_SECOND = 253402300799  # 9999-12-31T23:59:59Z, the last second that a date folder can name


@dataclass(frozen=True)
class StatePaths:
    """The paths inside one state directory.

    Attributes:
        root: The state directory itself (``daemon.state_dir``).
    """

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite index."""
        return self.root / "dance.db"

    def has_database(self) -> bool:
        """Whether there is an index.

        Raises:
            PermissionError: This user may not look; ``Path.is_file`` says so before Python 3.14 alone.
        """
        try:
            return stat.S_ISREG(self.database.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    @property
    def samples(self) -> Path:
        """Images and labels, by camera and date."""
        return self.root / "samples"

    @property
    def models(self) -> Path:
        """The folder of model versions, one folder each."""
        return self.root / "models"

    @property
    def rounds(self) -> Path:
        """The folder of training rounds, one folder each."""
        return self.root / "rounds"

    @property
    def live_file(self) -> Path:
        """JSON that names the live model version and the one before it."""
        return self.models / "live.json"

    @property
    def lock(self) -> Path:
        """The file whose lock the daemon of this directory holds."""
        return self.root / "lock"

    @property
    def daemon_file(self) -> Path:
        """JSON in which the running daemon publishes its endpoints."""
        return self.root / "daemon.json"

    @property
    def console_token(self) -> Path:
        """The token that logs in at the console, readable by the daemon's user alone."""
        return self.root / "console.token"

    def sample_dir(self, camera: str, captured_at: float) -> Path:
        """The folder of a sample: camera, then the UTC date of capture.

        Args:
            camera: A name that matches ``CAMERA_NAME``.
            captured_at: Seconds since the epoch, from 1970 to 9999.

        Raises:
            ValueError: The name or the time cannot name a folder.
        """
        if not CAMERA_NAME.fullmatch(camera):
            raise ValueError(f"camera name {camera!r} must match {CAMERA_NAME.pattern}")
        if not (math.isfinite(captured_at) and 0 <= captured_at <= _LAST_SECOND):
            raise ValueError(f"captured_at {captured_at!r} is no time between 1970 and 9999 in seconds")
        return _day_dir(self, camera, int(captured_at) // _DAY)


@lru_cache(maxsize=256)
def _day_dir(paths: StatePaths, camera: str, day: int) -> Path:
    """The folder of a camera's samples of a day, counted from 1970 in UTC."""
    date = datetime.date(1970, 1, 1) + datetime.timedelta(days=day)
    return paths.samples / camera / date.isoformat()


def sample_id(camera: str, captured_at: float, seq: int) -> str:
    """The id of a frame, the same whenever it is sent: camera, microseconds, sequence number."""
    return f"{camera}-{int(captured_at * 1e6)}-{seq}"


def parse_sample_id(camera: str, identifier: str) -> tuple[float, int] | None:
    """Parse ``(captured_at, seq)`` from a sample id.

    Returns:
        Seconds since the epoch (to the microsecond) and the sequence number, or None when ``identifier`` is
        not an id of this camera.
    """
    prefix = f"{camera}-"
    if not identifier.startswith(prefix):
        return None
    numbers = _ID_NUMBERS.fullmatch(identifier, len(prefix))
    if numbers is None:
        return None
    microseconds, seq = int(numbers[1]), int(numbers[2])
    if f"{microseconds}-{seq}" != numbers[0] or not -_INT64 <= seq < _INT64:
        return None
    return microseconds / 1e6, seq


class StateInUse(RuntimeError):  # noqa: N818
    """Another process holds the state directory."""


class StateLock:
    """The exclusive right to write to a state directory, held while the ``with`` block runs.

    The kernel releases the lock when the process dies, in whatever way, so no stale lock is ever left.
    """

    def __init__(self, paths: StatePaths) -> None:
        self._paths = paths
        self._descriptor: int | None = None

    def __enter__(self) -> StateLock:
        """Take the lock, creating the state directory, for its owner alone, where it is missing.

        Raises:
            StateInUse: Another process holds it; the message names its pid.
            OSError: The directory cannot be created or written.
        """
        # It holds pictures. One that is there keeps the rights that somebody gave it.
        self._paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Commands of root take the lock in a folder of another user, who could make a link of it.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._paths.lock, flags, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                raise StateInUse(
                    f"{self._paths.root} is in use by {f'pid {holder}' if holder else 'another process'}; "
                    "stop that daemon first or choose another --state-dir"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock; the file stays, since removing it would let two processes lock two files."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.contextmanager
def state_folder(paths: StatePaths) -> Iterator[None]:
    """The state directory with its folders, made where they are missing, under its lock.

    Raises:
        StateInUse: Another process holds it.
        OSError: It cannot be written; the message says what to do.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(StateLock(paths))
            for folder in (paths.samples, paths.models, paths.rounds):
                folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # a link that leads nowhere, or a file of that name
            raise OSError(
                f"{error.filename} is no folder: if it is a link to another disk, mount that disk"
            ) from error
        except OSError as error:
            right = "give this user the right to write there"
            raise OSError(
                f"cannot write in the state folder {paths.root}: {error.strerror or error}; choose another "
                "with --state-dir or daemon.state_dir, or "
                f"{'remount its disk for writing' if error.errno == errno.EROFS else right}"
            ) from error
        yield
