"""The clients that the daemon knows: the public keys in a folder, which is read again when it changes."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from dance_ondevice.daemon.security.keys import PUBLIC_SUFFIX, KeysError, check_folder, load_public

log = logging.getLogger(__name__)

#: Name, inode, size and times of each key file: a difference means that the folder changed.
_Fingerprint: TypeAlias = tuple[tuple[str, int, int, int, int], ...]


class ClientKeys:
    """The known clients of a folder; any thread may call it.

    A file that is removed, or replaced by another key, revokes its key at the next scan. A missing folder
    admits no client. A folder that cannot be read for another reason is an error, and the known keys stay
    valid until it can.
    """

    def __init__(self, folder: Path, *, prefix: str = "") -> None:
        """Start without known keys; ``scan`` reads them.

        Args:
            folder: The folder with one ``<prefix>NAME.key`` for each client.
            prefix: Start of each file's name that is not part of the client's name.
        """
        self.folder = folder
        self._prefix = prefix
        self._lock = threading.Lock()
        self._seen: _Fingerprint | None = None
        self._known: Mapping[str, str] = MappingProxyType({})
        self._revocations = 0

    @property
    def known(self) -> Mapping[str, str]:
        """Client names by public key (Z85), as of the last scan; a returned mapping never changes."""
        return self._known

    @property
    def revocations(self) -> int:
        """Number of scans that found a key removed."""
        return self._revocations

    def key_of(self, name: str) -> str | None:
        """The public key of a client, as of the last scan."""
        return next((key for key, known in self._known.items() if known == name), None)

    def name_of(self, key: str) -> str | None:
        """The client's name for a public key, after a scan; None for an unknown key.

        Raises:
            OSError, KeysError: See ``scan``.
        """
        return self.scan().get(key)

    def scan(self) -> Mapping[str, str]:
        """Read the folder again if it changed; returns ``known``.

        Raises:
            OSError: The folder cannot be read.
            KeysError: Every user may write to the folder.
        """
        with self._lock:
            seen = self._fingerprint()
            if seen != self._seen:
                known = self._read(seen)
                gone = self._known.keys() - known.keys()
                for key in gone:
                    log.info("client revoked name=%s key=%s", self._known[key], key)
                self._revocations += bool(gone)
                self._known, self._seen = MappingProxyType(known), seen
            return self._known

    def _fingerprint(self) -> _Fingerprint:
        found = []
        try:
            check_folder(self.folder)
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.startswith(self._prefix) and entry.name.endswith(PUBLIC_SUFFIX):
                        facts = entry.stat()
                        times = facts.st_mtime_ns, facts.st_ctime_ns
                        found.append((entry.name, facts.st_ino, facts.st_size, *times))
        except FileNotFoundError:  # the folder, or a file that was just removed: the next scan will see it
            found = [entry for entry in found if (self.folder / entry[0]).exists()]
        return tuple(sorted(found))

    def _read(self, seen: _Fingerprint) -> dict[str, str]:
        known: dict[str, str] = {}
        for file, *_ in seen:
            try:
                key = load_public(self.folder / file).decode("ascii")
            except KeysError as error:
                log.warning("client not admitted error=%s", error)
                continue
            known[key] = file[len(self._prefix) : -len(PUBLIC_SUFFIX)]
        return known
