"""The clients that the daemon knows: the public keys in a folder, which is read again when it changes."""

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

#: Inode, size, times, mode and owner of a key file: a difference means that the file changed.
_Fingerprint: TypeAlias = tuple[int, ...]
#: Errors that mean that a file is missing, not that it cannot be read now.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
#: The largest file that is read; a certificate is far smaller.
_MOST_BYTES = 65536


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of the folder at a scan: its fingerprint, and its key or why it has none."""

    fingerprint: _Fingerprint
    key: str | None
    fault: str = ""
    #: Whether it is read again even if it has not changed.
    unread: bool = False


class ClientKeys:
    """The known clients of a folder; any thread may call it.

    A file that is removed, or replaced by another key, revokes its key at the next scan. Other files, damaged
    files, and files that other users may write are skipped. A key under two names admits neither. A missing
    folder admits no client. A folder that cannot be read for another reason, or that other users may write
    to, is an error, and the known keys stay valid until it can be read.
    """

    def __init__(self, folder: Path, *, prefix: str = "", owners: Collection[int] | None = None) -> None:
        """Start without known keys; ``scan`` reads them.

        Args:
            folder: The folder with one ``<prefix>NAME.key`` for each client.
            prefix: Start of each file's name that is not part of the client's name; with one, the folder and
                its permissions are systemd's.
            owners: Users who may own the files; None for root and this process's own user.
        """
        self.folder = folder
        self._prefix = prefix
        self._owners = trusted_owners() if owners is None else frozenset(owners)
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._known: Mapping[str, str] = MappingProxyType({})
        self._by_name: Mapping[str, str] = MappingProxyType({})
        self._faults: Mapping[str, str] = MappingProxyType({})
        self._revocations = 0

    @property
    def known(self) -> Mapping[str, str]:
        """Client names by public key (Z85), as of the last scan; a returned mapping never changes."""
        return self._known

    @property
    def by_name(self) -> Mapping[str, str]:
        """Public keys by client name, as of the last scan; a returned mapping never changes."""
        return self._by_name

    @property
    def faults(self) -> Mapping[str, str]:
        """Why a file admits nobody, by its name, as of the last scan."""
        return self._faults

    @property
    def revocations(self) -> int:
        """Number of scans that found a key removed."""
        return self._revocations

    def key_of(self, name: str) -> str | None:
        """The public key of a client, as of the last scan."""
        return self._by_name.get(name)

    def name_of(self, key: str) -> str | None:
        """The client's name for a public key, after a scan; None for an unknown key.

        Raises:
            OSError, KeysError: See ``scan``.
        """
        return self.scan().get(key)

    def scan(self) -> Mapping[str, str]:
        """Read what changed in the folder; returns ``known``.

        Raises:
            OSError: The folder cannot be read.
            KeysError: It, or its parent folder, belongs to other users or may be written by them.
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
                # A user who may write to the parent folder can replace this folder.
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
        self._by_name = MappingProxyType({name: key for key, name in known.items()})

    def _name(self, file: str) -> str:
        return file[len(self._prefix) : -len(PUBLIC_SUFFIX)]
