"""Model versions on disk: the live one, the one before it, and the first one, which never changes.

``models/<version>/`` holds the tensors and the card; ``models/live.json`` is the only pointer, replaced
atomically, so that a crash between any two steps leaves a version that loads. The table ``versions`` is an
index of the same facts and can be rebuilt from them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from sqlite_utils import Database

from dance_ondevice.daemon.children.child import out_of_memory
from dance_ondevice.daemon.store.notes import forget_uncertainties
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import read_regular, write_durably

log = logging.getLogger(__name__)

#: Versions kept beside the live, the previous and the frozen one, newest first, by status.
KEEP = {"rejected": 5, "rolled_back": 5, "damaged": 2, "candidate": 2, "retired": 10}

#: What a process that has no memory or descriptors left is told.
_SHORT = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)

_NUMBERED = re.compile(r"v([0-9]{1,18})")


class VersionError(ValueError):
    """A version that does not exist, does not load, or cannot be made live; the message says what to do."""


@dataclass(frozen=True)
class Pointer:
    """The content of ``models/live.json``.

    Attributes:
        version: The live version.
        previous: The version that was live before it, for rollback; None at first.
        frozen: The first version of this device, which every round scores for comparison.
    """

    version: str
    previous: str | None
    frozen: str


class _PointerFile(msgspec.Struct, frozen=True):
    """``models/live.json`` as a person may write it: the version alone is enough."""

    version: str
    previous: str | None = None
    frozen: str | None = None


@dataclass(frozen=True)
class Live:
    """The live pointer and the card that it points to, as plain data."""

    pointer: Pointer
    card: Mapping[str, Any]


@dataclass(frozen=True)
class _Problem:
    """Why a version does not load; ``passing`` where the files are not to blame."""

    text: str
    passing: bool = False


class NothingLoads(VersionError):  # noqa: N818 - says what is wrong
    """No version loads.

    Attributes:
        problem: Why the live version does not load.
    """

    def __init__(self, problem: str, live_file: Path) -> None:
        super().__init__(
            f"{problem}, and no other version does; delete {live_file} to start from model.weights"
        )
        self.problem = problem


def read_pointer(paths: StatePaths) -> Pointer | None:
    """The live pointer, or None before the first version was adopted.

    Raises:
        VersionError: It is damaged.
        OSError: It cannot be read.
    """
    try:
        found = decode(read_regular(paths.live_file), _PointerFile)
        version = _plain(found.version)
        return Pointer(
            version,
            _plain(found.previous) if found.previous else None,
            _plain(found.frozen) if found.frozen else version,
        )
    except FileNotFoundError:
        return None
    except (DocumentError, KeyError) as error:
        raise VersionError(
            f"{paths.live_file} is not readable ({error}); write "
            '{"version": "<a folder under models/>"} into it, or delete it to start from model.weights'
        ) from error


class Versions:
    """The versions of one state directory; the rounds thread alone writes, any thread may read."""

    def __init__(self, paths: StatePaths, store: Store, *, now: Callable[[], float]) -> None:
        self._paths = paths
        self._store = store
        self._now = now
        #: The result of ``fall_back``, for ``status``.
        self.note: str | None = None
        self._live = self._read_live()

    def live(self) -> Live | None:
        """The live version, from memory, so that status and scrapes do not wait for a disk."""
        return self._live

    def pointer(self) -> Pointer | None:
        """The live pointer, see ``read_pointer``."""
        return read_pointer(self._paths)

    def directory(self, version: str) -> Path:
        """Folder of one version."""
        return self._paths.models / version

    def names(self) -> list[str]:
        """All versions on disk, oldest first."""
        if not self._paths.models.is_dir():
            return []
        found = (
            p.name
            for p in self._paths.models.iterdir()
            if not p.name.startswith(".") and (p / "card.json").is_file()
        )
        return sorted(found, key=age_key)

    def card(self, version: str) -> dict[str, Any]:
        """The version's card as plain data.

        Args:
            version: A name from ``names()``. Another spelling of its folder is refused, since it would be a
                second name of one version, and so is a path, since its model was neither judged nor copied.

        Raises:
            VersionError: There is no such version.
        """
        try:
            if version not in self.names():
                raise FileNotFoundError(version)
            card = decode(read_regular(self.directory(version) / "card.json"), dict[str, Any])
        except (OSError, DocumentError) as error:
            known = ", ".join(self.names()) or "none"
            raise VersionError(f"no readable version {version!r}; known versions: {known}") from error
        return card

    def of_round(self, round_id: str) -> str | None:
        """The version that a round has made, found by its card; None where it has made none."""
        for version in reversed(self.names()):
            try:
                training = self.card(version).get("training")
            except VersionError:  # damaged: it belongs to no round
                continue
            if isinstance(training, dict) and training.get("round") == round_id:
                return version
        return None

    def adopt(self, source: Path, *, status: str, round_id: str | None, changes: Mapping[str, object]) -> str:
        """Move a finished model folder into place as the next version; returns its name.

        The card is completed first, then the folder is renamed, then the row is written. A crash therefore
        leaves either the round's candidate or a complete version.
        """
        version = self._next_name()
        card_file = source / "card.json"
        card = decode(read_regular(card_file), dict[str, Any])
        card.update(changes, version=version, created_at=self._now())
        write_durably(card_file, json.dumps(card, indent=1).encode())
        self._paths.models.mkdir(parents=True, exist_ok=True)
        source.replace(self.directory(version))
        self._record(version, card, status, round_id)
        return version

    def make_live(
        self, version: str, *, reason: str, away_from: str | None = None, first: bool = False
    ) -> Pointer:
        """Point ``live.json`` at a version and keep the old one for rollback.

        Args:
            version: The version's name.
            reason: Why it goes live, for the log.
            away_from: New status of the old version where it proved bad: a rollback then leads not to it but
                to the parent of the new version.
            first: Whether it becomes the frozen version too, because nothing was learnt before it.

        Raises:
            VersionError: There is no such version.
        """
        card = self.card(version)
        old = self.pointer()
        if old is not None and old.version == version:
            return old
        pointer = Pointer(
            version=version,
            previous=self._parent(card) if away_from else old.version if old else None,
            frozen=old.frozen if old and not first else version,
        )
        if old is not None and away_from:
            # Before the pointer: after a crash between the two, the bad version is live and the next start
            # marks it live. The other order would leave a bad version that a rollback could choose.
            self._set_statuses({old.version: away_from})
        write_durably(self._paths.live_file, json.dumps(asdict(pointer)).encode())
        self._live = self._read_live()
        self._store.submit(lambda db: _mark_live(db, version)).result()
        log.info("model live version=%s previous=%s reason=%s", version, pointer.previous, reason)
        return pointer

    def replace_all(self, version: str, *, frozen: str) -> None:
        """Make a version live and another the yardstick; nothing before them can be rolled back to."""
        pointer = Pointer(version=version, previous=None, frozen=frozen)
        write_durably(self._paths.live_file, json.dumps(asdict(pointer)).encode())
        self._live = self._read_live()
        self._store.submit(lambda db: _mark_live(db, version)).result()

    def become_first(self, version: str) -> None:
        """Make a version the yardstick: nothing was learnt before it."""
        pointer = self.pointer()
        if pointer is not None:
            changed = replace(pointer, frozen=version)
            write_durably(self._paths.live_file, json.dumps(asdict(changed)).encode())

    def annotate(self, version: str, changes: Mapping[str, object]) -> None:
        """Add later findings to a version's card.

        Raises:
            VersionError: There is no such version.
        """
        card = self.card(version)
        card.update(changes)
        write_durably(self.directory(version) / "card.json", json.dumps(card, indent=1).encode())
        text = json.dumps(card)
        self._store.submit(
            lambda db: db.execute("update versions set card = ? where version = ?", [text, version])
        ).result()
        self._live = self._read_live()

    def fall_back(self, loads: Callable[[Path], object]) -> str | None:
        """Make sure that the live version loads; where it does not, make the next best version live.

        The previous version is tried first, then earlier live versions, newest first, and last the first
        version. Rejected versions are never used. A version that could not be loaded for want of memory or
        descriptors is not marked as damaged: a rollback leads back to it.

        Args:
            loads: Loads a version's folder; any exception means that the version does not load.

        Returns:
            What was wrong and which version is live instead; None when the live version loads, or there is
            none.

        Raises:
            NothingLoads: No version loads; the message says which were tried and what to do.
        """
        pointer = self.pointer()
        if pointer is None:
            return None
        problem = self._problem(pointer.version, loads)
        if problem is None:
            return None
        log.error("live model does not load version=%s error=%s", pointer.version, problem.text)
        for version in self._spare(pointer):
            if self._problem(version, loads) is None:
                self.make_live(
                    version,
                    reason=f"{pointer.version} does not load",
                    away_from=None if problem.passing else "damaged",
                )
                self.note = (
                    f"{pointer.version} does not load ({problem.text}): {version} is live in its place"
                )
                if problem.passing:
                    self.note += "; once there is room, 'dance-ondevice models rollback' makes it live again"
                return self.note
        raise NothingLoads(f"{pointer.version} does not load ({problem.text})", self._paths.live_file)

    def _problem(self, version: str, loads: Callable[[Path], object]) -> _Problem | None:
        if version not in self.names():
            return _Problem(f"there is no version of this name under {self._paths.models}")
        return _problem(self.directory(version), loads)

    def _spare(self, pointer: Pointer) -> list[str]:
        refused = self._store.submit(
            lambda db: {
                row["version"]
                for row in db["versions"].rows_where(
                    "status in ('rejected', 'rolled_back', 'damaged', 'candidate')"
                )
            }
        ).result()
        earlier = [v for v in reversed(self.names()) if v not in refused]
        order = [pointer.previous, *earlier, pointer.frozen]
        return [v for v in dict.fromkeys(order) if v is not None and v != pointer.version]

    def _parent(self, card: Mapping[str, Any]) -> str | None:
        parent = card.get("parent")
        return parent if isinstance(parent, str) and parent in self.names() else None

    def prune(self) -> list[str]:
        """Delete old rejected and retired versions beyond ``KEEP``; returns their names."""
        pointer = self.pointer()
        safe = {pointer.version, pointer.previous, pointer.frozen} if pointer else set()
        rows = self._store.submit(
            lambda db: [(r["version"], r["status"]) for r in db["versions"].rows]
        ).result()
        rows.sort(key=lambda row: age_key(row[0]), reverse=True)
        removed = []
        for status, keep in KEEP.items():
            old = [version for version, s in rows if s == status and version not in safe][keep:]
            removed += old
        for version in removed:
            # The row goes first: a row without a folder would be offered for rollback.
            self._store.submit(partial(_forget, version=version)).result()
            shutil.rmtree(self.directory(version), ignore_errors=True)
        return removed

    def _read_live(self) -> Live | None:
        pointer = self.pointer()
        try:
            return None if pointer is None else Live(pointer, self.card(pointer.version))
        except VersionError as error:
            # ``fall_back`` looks for another version; the pointer itself is valid.
            log.error("live model unreadable error=%s", error)
            return None

    def _next_name(self) -> str:
        # Also of folders whose card is gone: the new version must not come to lie in one of them.
        folders = (path.name for path in self._paths.models.iterdir()) if self._paths.models.is_dir() else ()
        newest = max((age_key(name)[0] for name in folders), default=0)
        return f"v{max(newest, 0) + 1:04d}"

    def _record(self, version: str, card: Mapping[str, Any], status: str, round_id: str | None) -> None:
        gate = card.get("gate") or {}
        row = {
            "version": version,
            "parent": card.get("parent"),
            "created_at": card.get("created_at"),
            "status": status,
            "architecture": card.get("architecture") or card.get("factory"),
            "macs": card.get("macs"),
            "parameters": card.get("parameters"),
            "round_id": round_id,
            "miou_gate": gate.get("miou_after"),
            "card": json.dumps(card),
        }
        self._store.submit(lambda db: db.table("versions").upsert(row, pk="version")).result()

    def _set_statuses(self, statuses: Mapping[str, str]) -> None:
        def update(db: Database) -> None:
            for version, status in statuses.items():
                db.execute("update versions set status = ? where version = ?", [status, version])

        self._store.submit(update).result()


def check_intact(directory: Path) -> None:
    """Check without torch that a version's tensors are those that its card was written for.

    Raises:
        ValueError: The tensors differ, or the card is damaged.
        OSError: A file is missing or cannot be read.
    """
    card = decode(read_regular(directory / "card.json"), dict[str, Any])
    found = hashlib.sha256(read_regular(directory / "model.safetensors")).hexdigest()
    if card.get("sha256") != found:
        raise ValueError(f"{directory}/model.safetensors is damaged: its SHA-256 is not the card's")


def _plain(name: str) -> str:
    """The name of a version however its folder was once written: ``v0002/`` is ``v0002``."""
    parts = PurePosixPath(os.path.normpath(name)).parts
    return parts[0] if len(parts) == 1 else name


def _mark_live(db: Database, version: str) -> None:
    # Whatever was called live, also by a pointer that somebody has removed: there is one.
    db.execute("update versions set status = 'retired' where status = 'live' and version <> ?", [version])
    changed = db.execute(
        "update versions set status = 'live' where version = ? and status <> 'live'", [version]
    )
    if changed.rowcount:
        forget_uncertainties(db)


def age_key(version: str) -> tuple[int, str]:
    """Key that sorts version names from the oldest to the newest: v9999 comes before v10000.

    Names that the daemon did not give have no number and sort first.
    """
    numbered = _NUMBERED.fullmatch(version)
    return (int(numbered[1]) if numbered else -1, version)


def _forget(db: Database, version: str) -> None:
    db.table("versions").delete(version)


def _problem(directory: Path, loads: Callable[[Path], object]) -> _Problem | None:
    try:
        loads(directory)
    except Exception as error:  # the model may be the user's own: loading it may raise anything
        return _Problem(str(error) or type(error).__name__, passing=_is_passing(error))
    return None


def _is_passing(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that memory or descriptors are short for now."""
    while error is not None:
        if isinstance(error, Exception) and out_of_memory(error):
            return True
        if isinstance(error, OSError) and error.errno in _SHORT:
            return True
        error = error.__cause__ or error.__context__
    return False
