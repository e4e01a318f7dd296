"""The daemons that run on this machine, and how a command finds the one that is meant."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from stat import S_ISDIR

import msgspec

from dance_ondevice.daemon.config import load as configuration
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import read_regular, write_durably

log = logging.getLogger(__name__)

SYSTEM_RUNTIME_DIR = Path("/run/dance-ondevice")


class AmbiguousInstanceError(Exception):
    """Several daemons run and the command does not say which one is meant."""


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A running daemon; ``start_time`` (ticks since boot) tells a later process of its pid apart."""

    pid: int
    start_time: int
    state_dir: str
    control: str


class DaemonFile(msgspec.Struct, frozen=True, kw_only=True):
    """``daemon.json`` in the state folder: the endpoints that the running daemon has bound.

    ``state_dir`` is that folder, as the daemon names it; empty where an earlier version wrote the file.
    """

    pid: int
    state_dir: str = ""
    control: str
    ingest: tuple[str, ...] = ()
    subscribe_bind: tuple[str, ...] = ()
    inference: str | None = None
    metrics: str | None = None
    console: str | None = None
    fleet: str | None = None


def runtime_dir(environ: Mapping[str, str]) -> Path:
    """The folder for this user's sockets and registrations, created with mode 0700 if it is missing.

    Raises:
        OSError: It cannot be created, or the one in the shared temporary folder belongs to another user.
    """
    given = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    if os.access(SYSTEM_RUNTIME_DIR, os.W_OK | os.X_OK):
        return SYSTEM_RUNTIME_DIR
    folder = _user_dir(environ)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(folder):
        raise PermissionError(f"{folder} is not private to this user; remove it or set XDG_RUNTIME_DIR")
    return folder


def start_time(pid: int, procfs: Path = Path("/proc")) -> int | None:
    """Clock ticks since boot at which a process started; None when there is no such process."""
    try:
        stat = (procfs / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in brackets, which may itself contain blanks and brackets.
    fields = stat.rpartition(b")")[2].split()
    return int(fields[19])


def register(state_dir: Path, control: str, environ: Mapping[str, str]) -> Path:
    """Register the calling process as a running daemon; returns the file to remove at the end."""
    pid = os.getpid()
    instance = Instance(
        pid=pid, start_time=start_time(pid) or 0, state_dir=str(state_dir.absolute()), control=control
    )
    path = runtime_dir(environ) / f"{pid}.json"
    write_durably(path, msgspec.json.encode(instance))
    return path


def running(environ: Mapping[str, str]) -> list[Instance]:
    """The running daemons that this user can see; registrations of dead ones are removed."""
    found: dict[int, Instance] = {}
    for folder in _search_dirs(environ):
        for path in _registrations(folder):
            try:
                instance = decode(read_regular(path), Instance)
            except (OSError, DocumentError) as error:
                log.debug("registration skipped path=%s error=%s", path, error)
                continue
            if start_time(instance.pid) == instance.start_time:
                found[instance.pid] = instance
            else:
                with contextlib.suppress(OSError):  # another user's folder
                    path.unlink()
    return [found[pid] for pid in sorted(found)]


def locate(config_path: Path | None, state_dir: Path | None, environ: Mapping[str, str]) -> Path:
    """The state folder of the daemon that a command is meant for.

    It is ``state_dir`` if given, else that of an explicitly given configuration, else that of the only
    running daemon, else that of the system's configuration or the default.

    Raises:
        AmbiguousInstanceError: None was given and several daemons run.
        ConfigError: The configuration cannot be used.
    """
    if state_dir is not None:
        return state_dir.absolute()
    if config_path is not None:
        return Path(configuration.load(config_path).config.daemon.state_dir)
    instances = running(environ)
    if len(instances) > 1:
        lines = "".join(f"\n  pid {instance.pid}: {instance.state_dir}" for instance in instances)
        raise AmbiguousInstanceError(f"{len(instances)} daemons run; say which one with --state-dir:{lines}")
    if instances:
        return Path(instances[0].state_dir)
    return Path(configuration.load(configuration.find(None)).config.daemon.state_dir)


def write_daemon_file(paths: StatePaths, content: DaemonFile) -> None:
    """Publish the daemon's endpoints in its state folder."""
    write_durably(paths.daemon_file, msgspec.json.encode(content))


def read_daemon_file(paths: StatePaths) -> DaemonFile | None:
    """Read the endpoints that the daemon of a state folder published; None when there is no readable file.

    The file in a copy of a folder, made while its daemon ran, names the daemon of the original: None.

    Raises:
        PermissionError: This user may not read the file.
    """
    try:
        found = decode(read_regular(paths.daemon_file), DaemonFile)
    except (FileNotFoundError, NotADirectoryError, DocumentError):
        return None
    return None if _is_another(Path(found.state_dir), paths.root) else found


def _is_another(told: Path, root: Path) -> bool:
    """Whether a folder that a file names is there and is not the file's own, under whatever name."""
    try:
        return told.is_absolute() and not told.samefile(root)
    except (OSError, ValueError):  # that of a container or of another board, or no path at all
        return False


def _user_dir(environ: Mapping[str, str]) -> Path:
    xdg = environ.get("XDG_RUNTIME_DIR", "")
    if xdg:
        return Path(xdg) / "dance-ondevice"
    return Path(environ.get("TMPDIR") or tempfile.gettempdir()) / f"dance-ondevice-{os.getuid()}"


def _search_dirs(environ: Mapping[str, str]) -> Iterator[Path]:
    given = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if given:
        yield Path(given)
    yield SYSTEM_RUNTIME_DIR
    folder = _user_dir(environ)
    if _is_private(folder):
        yield folder


def _is_private(folder: Path) -> bool:
    """Whether only this user can open a folder: any user can create names in the shared temporary folder."""
    try:
        stat = folder.lstat()
    except OSError:
        return False
    return S_ISDIR(stat.st_mode) and stat.st_uid == os.getuid() and not stat.st_mode & 0o077


def _registrations(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except OSError:  # missing, or another user's
        return []
