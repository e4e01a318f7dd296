"""Which clients the daemon knows now: the public keys in a folder, read again whenever the folder changes."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from dance_ondevice.daemon.security.keys import (
    PUBLIC_SUFFIX,
    KeysError,
    check_access,
    check_folder,
    load_public,
    trusted_owners,
)
from dance_ondevice.daemon.system.state import CAMERA_NAME

log = logging.getLogger(__name__)

#: Inode, size, times, mode and owner of a key file: another one means that something changed.
_Fingerprint: TypeAlias = tuple[int, ...]
#: Errors that say that a file is not there, and not that it cannot be looked at now.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
#: A certificate is smaller by far.
_MOST_BYTES = 65536


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of the folder as of a scan: what it looked like, and its key or why it has none."""

    fingerprint: _Fingerprint
    key: str | None
    fault: str = ""
    #: Read it again even if it looks the same.
    unread: bool = False


class ClientKeys:
    """The folder's clients; any thread may ask.

    A file that is removed, or replaced by another key, revokes what it held at the next scan. What lies there
    besides, is damaged, or may be written by others costs nobody but itself. A key under two names admits
    neither. A folder that is missing admits no client; one that cannot be read for another reason, or
    that others may write to, is an error, and what was known stays known until it can.
    """

    def __init__(self, folder: Path, *, prefix: str = "", owners: Collection[int] | None = None) -> None:
        """Look nothing up yet.

        Args:
            folder: holds ``<prefix>NAME.key`` for each client.
            prefix: not part of the client's name; with one, the folder and its rights are systemd's.
            owners: users who may own what is read; None for root and this process's own.
        """
        self.folder = folder
        self._prefix = prefix
        self._owners = trusted_owners() if owners is None else frozenset(owners)
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._known: Mapping[str, str] = MappingProxyType({})
        self._faults: Mapping[str, str] = MappingProxyType({})
        self._revocations = 0

    @property
    def known(self) -> Mapping[str, str]:
        """Names by public key (Z85), as of the last scan; never changes once handed out."""
        return self._known

    @property
    def faults(self) -> Mapping[str, str]:
        """Why a file admits nobody, by its name, as of the last scan."""
        return self._faults

    @property
    def revocations(self) -> int:
        """Counts scans that found a key gone."""
        return self._revocations

    def key_of(self, name: str) -> str | None:
        """The public key of a client, as of the last scan."""
        return next((key for key, known in self._known.items() if known == name), None)

    def name_of(self, key: str) -> str | None:
        """The name of a public key, after a scan; None for one that is not known.

        Raises:
            OSError, KeysError: see ``scan``.
        """
        return self.scan().get(key)

    def scan(self) -> Mapping[str, str]:
        """Read what changed in the folder; returns ``known``.

        Raises:
            OSError: the folder cannot be read.
            KeysError: it, or the one that it lies in, belongs to others or may be written by them.
        """
        with self._lock:
            entries = self._look()
            if entries != self._entries:
                self._entries = entries
                self._take(entries)
            return self._known

    def _look(self) -> dict[str, _Entry]:
        entries: dict[str, _Entry] = {}
        try:
            if not self._prefix:
                # Whoever may write to the outer one can put another folder in the place of this one.
                check_folder(self.folder.parent, self._owners)
                check_folder(self.folder, self._owners)
            with os.scandir(self.folder) as found:
                for file in found:
                    if file.name.startswith(self._prefix) and file.name.endswith(PUBLIC_SUFFIX):
                        entry = self._entry(file)
                        if entry is not None:
                            entries[file.name] = entry
        except FileNotFoundError:  # the folder itself
            return {}
        return entries

    def _entry(self, file: os.DirEntry[str]) -> _Entry | None:
        """What to know of a file; None for one that has just gone, or is no client's."""
        before = self._entries.get(file.name)
        if CAMERA_NAME.fullmatch(self._name(file.name)) is None:
            # Such as the links and copies that editors leave beside a file.
            return None
        try:
            facts = file.stat()
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            return before or _Entry((), None, f"cannot be looked at: {error.strerror}", unread=True)
        fingerprint = (
            *(facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns),
            *(facts.st_mode, facts.st_uid),
        )
        if before is not None and before.fingerprint == fingerprint and not before.unread:
            return before
        return self._read(file.name, facts, fingerprint, before)

    def _read(
        self, file: str, facts: os.stat_result, fingerprint: _Fingerprint, before: _Entry | None
    ) -> _Entry | None:
        path = self.folder / file
        try:
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MOST_BYTES:
                raise KeysError(f"{path} is no key file")
            if not self._prefix:
                check_access(path, facts, self._owners)
            return _Entry(fingerprint, load_public(path).decode("ascii"))
        except KeysError as error:
            cause = error.__cause__
            # pyzmq says without a number that a file is not there.
            if isinstance(cause, OSError) and cause.errno in (*_NOT_THERE, None):
                return None
            # No descriptor, no memory, an error of the disk: not the file's fault, so it is tried again.
            for_now = isinstance(cause, OSError) and cause.errno not in (errno.EACCES, errno.EPERM)
            key = before.key if for_now and before is not None else None
            return _Entry(fingerprint, key, str(error), unread=for_now)

    def _take(self, entries: Mapping[str, _Entry]) -> None:
        """Make what was found known, and say what of it cannot be."""
        names: dict[str, list[str]] = defaultdict(list)
        for file, entry in sorted(entries.items()):
            if entry.key is not None:
                names[entry.key].append(self._name(file))
        known = {key: each[0] for key, each in names.items() if len(each) == 1}
        faults = {file: entry.fault for file, entry in sorted(entries.items()) if entry.fault}
        for each in names.values():
            if len(each) > 1:
                fault = f"{' and '.join(each)} have the same key: neither is admitted until one is left"
                faults |= {f"{self._prefix}{name}{PUBLIC_SUFFIX}": fault for name in each}
        for file, fault in faults.items():
            if self._faults.get(file) != fault:
                log.warning("client not admitted file=%s error=%s", file, fault)
        gone = self._known.keys() - known.keys()
        for key in gone:
            log.info("client revoked name=%s key=%s", self._known[key], key)
        self._revocations += bool(gone)
        self._known, self._faults = MappingProxyType(known), MappingProxyType(faults)

    def _name(self, file: str) -> str:
        return file[len(self._prefix) : -len(PUBLIC_SUFFIX)]
