"""The versions of a state folder that no daemon runs on, for commands that change them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dance_ondevice.daemon.cli import WorkFailed

if TYPE_CHECKING:
    from dance_ondevice.daemon.system.state import StatePaths
    from dance_ondevice.daemon.versions.versions import Versions


@contextmanager
def offline_versions(paths: StatePaths, now: Callable[[], float]) -> Iterator[Versions]:
    """The versions of a state folder, whose lock is held in this context.

    Args:
        paths: Paths of the state folder.
        now: Wall clock, in seconds.

    Raises:
        WorkFailed: The folder is missing, a daemon runs on it, or it cannot be used.
    """
    from dance_ondevice.daemon.store.service import Store
    from dance_ondevice.daemon.system.owner import command_lock
    from dance_ondevice.daemon.system.state import StateInUse
    from dance_ondevice.daemon.versions.versions import VersionError, Versions

    if not paths.root.is_dir():
        raise WorkFailed(f"{paths.root} is not there; give the daemon's folder with --state-dir")
    try:
        with command_lock(paths):
            for folder in (paths.samples, paths.models, paths.rounds):
                folder.mkdir(parents=True, exist_ok=True)
            # Without limits: nothing is stored, and nothing may be evicted.
            store = Store(paths, quota_bytes=1 << 62, min_free_bytes=0)
            store.start()
            try:
                yield Versions(paths, store, now=now)
            finally:
                store.stop(10.0)
    except (StateInUse, VersionError, OSError) as error:
        raise WorkFailed(str(error)) from error
