"""The doctor's checks of the board itself: its disk, its clock, its temperature and its supply."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.daemon.doctor.finding import Check
from dance_ondevice.daemon.system.clock import EARLIEST
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.energy.board import read_conditions, read_hindrances

#: SQLite's write-ahead log needs shared memory and locks, which these lack (https://sqlite.org/wal.html).
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs"})
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
#: File systems without links, owners and a rename that survives a power cut.
_PLAIN = frozenset({"vfat", "msdos", "exfat", "fuseblk", "ntfs", "ntfs3"})

#: Returned by adjtimex(2) while nothing disciplines the clock (TIME_ERROR).
_UNSYNCHRONISED = 5


@dataclass(frozen=True)
class _Mount:
    point: str
    kind: str
    source: str
    device: str


def check_disk(paths: StatePaths, procfs: Path, sysfs: Path) -> Check:
    """Check that the state folder's file system keeps acknowledged data, and name the kind of its device."""
    name = "disk"
    folder = next(path for path in (paths.root, *paths.root.parents) if path.exists()).resolve()
    mount = _mount_of(folder, procfs)
    if mount is None:
        return Check(
            name, "warning", f"{procfs}/self/mountinfo does not list {folder}", "set energy.procfs_root"
        )
    detail = f"{mount.kind} on {_medium(mount, sysfs)}, mounted at {mount.point}"
    if mount.kind in _NETWORK:
        remedy = (
            "the index would break on a network's file system: put daemon.state_dir on a disk of this board"
        )
        return Check(name, "failure", detail, remedy)
    if mount.kind in _IN_MEMORY:
        remedy = "everything is gone when the power is: put daemon.state_dir on a disk"
        return Check(name, "warning", detail, remedy)
    if mount.kind in _PLAIN:
        remedy = (
            "a power cut may lose acknowledged frames here: put daemon.state_dir on ext4, f2fs, xfs or btrfs"
        )
        return Check(name, "warning", detail, remedy)
    return Check(name, "ok", detail)


def check_clock(now: float, state: Callable[[], int] | None = None) -> Check:
    """Check that the wall clock is set and synchronised; frames are dated and held out by it.

    Args:
        now: Wall-clock seconds.
        state: Returns the result of adjtimex(2); by default the kernel is asked.
    """
    name = "clock"
    remedy = "windows and dates go by it: let it be kept, for example timedatectl set-ntp true"
    if now < EARLIEST:
        return Check(name, "failure", "never set since power on: it shows a time before this release", remedy)
    try:
        found = (state or _clock_state)()
    except OSError as error:
        return Check(
            name,
            "warning",
            f"the kernel does not report whether it is synchronised ({error.strerror})",
            remedy,
        )
    if found == _UNSYNCHRONISED:
        return Check(name, "warning", "nothing keeps it: it is not synchronised", remedy)
    return Check(name, "ok", "synchronised")


def check_heat(sysfs: Path, max_temperature_c: float) -> Check:
    """Check that the board is cool enough to train, and neither throttled nor short of power."""
    name = "temperature"
    celsius = read_conditions(sysfs).temperature_c
    hindrances = read_hindrances(sysfs)
    detail = "no sensor" if celsius is None else f"{celsius:.0f} °C, rounds end at {max_temperature_c:g} °C"
    if hindrances:
        remedy = (
            "no round starts meanwhile: use the board's own power supply and a short, thick cable; cool it"
        )
        return Check(name, "warning", f"{detail}; {'; '.join(hindrances)}", remedy)
    if celsius is not None and celsius >= max_temperature_c:
        remedy = "no round starts meanwhile: cool the board, or raise energy.max_temperature_c"
        return Check(name, "warning", detail, remedy)
    return Check(name, "ok", detail)


def _mount_of(folder: Path, procfs: Path) -> _Mount | None:
    """The mount with the longest path above a folder; of several at one path, the last one counts."""
    best: _Mount | None = None
    try:
        lines = (procfs / "self" / "mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 5 or len(rest) < 2:
            continue
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[4])  # blanks are written \040
        if folder.is_relative_to(point) and (best is None or len(point) >= len(best.point)):
            best = _Mount(point, rest[0], rest[1], fields[2])
    return best


def _medium(mount: _Mount, sysfs: Path) -> str:
    """The kind of device that a file system is on, in words."""
    device = (sysfs / "dev" / "block" / mount.device).resolve()
    # The queue of a partition is that of its disk.
    for folder in (device, device.parent):
        try:
            rotational = (folder / "queue" / "rotational").read_text().strip()
        except OSError:
            continue
        if folder.name.startswith("mmcblk"):
            return f"an SD card or eMMC ({folder.name})"
        return f"a {'hard disk' if rotational == '1' else 'solid-state disk'} ({folder.name})"
    return mount.source


def _clock_state() -> int:
    """Read the clock's state with adjtimex(2), without changing it.

    Raises:
        OSError: The kernel, or a container, does not allow it.
    """
    # Larger than struct timex anywhere; its first member, modes = 0, changes nothing.
    buffer = ctypes.create_string_buffer(512)
    result = int(ctypes.CDLL(None, use_errno=True).adjtimex(buffer))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
