"""The owner of a state folder, to whom belongs what a command of root makes in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dance_ondevice.daemon.system.state import StateLock, StatePaths

__all__ = ["AS_SERVICE", "command_lock", "give_to_owner"]

#: What to do where this user may not open a file of the service.
AS_SERVICE = "run the command with sudo, or as the daemon's user"


@contextmanager
def command_lock(paths: StatePaths) -> Iterator[None]:
    """Hold the lock of a state folder on which no daemon runs, for a command that changes it.

    The service's user alone and root may enter the folder, and under systemd's ``DynamicUser`` that user
    cannot be become: such commands are run by root. What they make is given to the folder's owner, or the
    service could not write it.

    Raises:
        StateInUse: A daemon runs on the folder.
        OSError: The folder cannot be made or written.
    """
    with StateLock(paths):
        try:
            yield
        finally:
            if os.geteuid() == 0:
                give_to_owner(paths.root)


def give_to_owner(root: Path) -> None:
    """Give root's files below a folder to the folder's owner; nothing where root owns it.

    No link is followed, and a file with a second name is left alone: the owner may have made it of one that
    is not his.

    Args:
        root: The folder; of its links to folders only ``samples`` is entered, and only into one of the owner.
    """
    owner = root.stat()
    if owner.st_uid == 0:
        return
    samples = root / "samples"
    for top in (root, samples) if samples.is_symlink() else (root,):
        if not top.is_dir():  # a link to a disk that is not mounted
            continue
        for number, (_, folders, files, here) in enumerate(os.fwalk(os.path.realpath(top))):
            if number == 0 and os.fstat(here).st_uid != owner.st_uid:
                break
            for name in [*folders, *files]:
                with contextlib.suppress(OSError):  # gone since
                    found = os.stat(name, dir_fd=here, follow_symlinks=False)
                    alone = name in folders or found.st_nlink == 1
                    if found.st_uid == 0 and alone and name != "lost+found":
                        os.chown(name, owner.st_uid, owner.st_gid, dir_fd=here, follow_symlinks=False)
