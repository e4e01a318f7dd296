"""Models from outside: the configured base model, and those that are imported.

No such model is adopted before a copy of it was loaded and run in a scratch folder, so a model that does not
work leaves the state folder unchanged, and correcting the configuration is enough to repair the service.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import tryout
from dance_ondevice.daemon.versions.versions import VersionError, Versions
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import read_regular, write_durably

__all__ = [
    "Change",
    "ModelChanges",
    "Wanted",
    "changes",
    "copy_in",
    "is_checkpoint",
    "is_untrained",
    "taken",
    "wanted",
]

log = logging.getLogger(__name__)

#: The two files of a checkpoint; a file without a card holds only weights.
TENSORS, CARD = "model.safetensors", "card.json"
#: Fields of a card about the service that made it; in another state folder they would be misleading.
_OF_ITS_SERVICE = ("gate", "probation", "samples", "slimming", "energy", "parent", "imported")


@dataclass(frozen=True)
class Wanted:
    """The model that a configuration asks for.

    Attributes:
        weights: Value of ``model.weights``.
        fingerprint: Fingerprint of the base model, empty where there is none or it cannot be read.
        problem: Why it cannot be read.
        architecture: Value of ``model.architecture``, empty where a factory replaces it.
        factory: Value of ``model.factory``.
        classes: Value of ``model.classes``.
    """

    weights: str
    fingerprint: str
    problem: str
    architecture: str
    factory: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A property of the model that the configuration asks for and that a start does not change."""

    key: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}; {self.remedy}"


def is_checkpoint(source: Path) -> bool:
    """Whether a path is the folder of a model, or one of the files in it; else it holds only weights."""
    return not source.is_file() or (source.name == TENSORS and (source.parent / CARD).exists())


def is_untrained(card: Mapping[str, Any]) -> bool:
    """Whether the card belongs to a network of which some part has not been trained."""
    training = card.get("training")
    return isinstance(training, Mapping) and bool(training.get("untrained"))


def wanted(config: Config) -> Wanted:
    """Read the model that the configuration asks for; of a base model only its card or its hash."""
    model, fingerprint, problem = config.model, "", ""
    if model.source:
        source = Path(model.source)
        try:
            fingerprint = fingerprint_of(source)
        except (OSError, ValueError) as error:
            problem = str(error)
    return Wanted(
        weights=model.source,
        fingerprint=fingerprint,
        problem=problem,
        architecture="" if model.factory else model.architecture,
        factory=model.factory,
        classes=tuple(model.classes),
    )


def fingerprint_of(source: Path) -> str:
    """The fingerprint of a base model: the SHA-256 of its tensors, or of its file.

    Raises:
        OSError: It is missing or cannot be read.
        ValueError: Its card is not a model card.
    """
    if not is_checkpoint(source):
        with source.open("rb") as opened:
            digest = hashlib.sha256()
            while block := opened.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    card = read_card(folder_of(source))
    return str(card.get("sha256") or "")


def folder_of(source: Path) -> Path:
    """The folder of a model, from itself or one of its files."""
    return source.parent if source.name in (TENSORS, CARD) else source


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a model outside the state folder, as plain data.

    Raises:
        OSError: The card or the tensors are missing.
        ValueError: The card is not a model card.
    """
    try:
        card = decode(read_regular(folder / CARD), dict[str, Any])
    except DocumentError as error:
        raise ValueError(f"{folder / CARD} is not a model card: {error}") from error
    if not (folder / TENSORS).is_file():
        raise FileNotFoundError(f"{folder / TENSORS} is missing")
    return card


def taken(paths: StatePaths) -> frozenset[str]:
    """Fingerprints of all models that came into a state folder, including rejected ones."""
    found: set[str] = set()
    # Without the file (an earlier release, or damage), the cards still give those of the present versions.
    with contextlib.suppress(OSError, DocumentError):
        found.update(decode(read_regular(paths.models / "taken.json"), list[str]))
    for file in paths.models.glob("*/card.json"):
        try:
            card = decode(read_regular(file), dict[str, Any])
            weights = (card.get("training") or {}).get("weights") or {}
            found.add(str(card.get("sha256")))
            if weights:
                # Earlier releases recorded the name of the file, not its content.
                found.add(str(weights.get("sha256") or f"file:{weights.get('file')}"))
        except (OSError, ValueError, AttributeError):
            continue
    return frozenset(found)


def note_taken(paths: StatePaths, fingerprint: str) -> None:
    """Record that a model came in, so that it is known even after its version is pruned."""
    if fingerprint:
        known = sorted(taken(paths) | {fingerprint})
        write_durably(paths.models / "taken.json", json.dumps(known).encode())


def changes(wish: Wanted, version: str, card: Mapping[str, Any], known: Iterable[str]) -> tuple[Change, ...]:
    """The properties of the model that a configuration asks for and the state folder does not have.

    Args:
        wish: The model that the configuration asks for.
        version: The live version.
        card: Card of the live version.
        known: Result of ``taken``.
    """
    found = []
    new = wish.weights and not {wish.fingerprint, f"file:{Path(wish.weights)}"} & set(known)
    if wish.problem:
        found.append(
            Change(
                "model.weights",
                f"{wish.weights} cannot be read ({wish.problem}), and {version} stays live",
                "mend the path, or take the key out",
            )
        )
    elif new:
        found.append(
            Change(
                "model.weights",
                f"{wish.weights} is not what {version} was made from, and what was learnt is kept",
                f"bring it in through the gate with `dance-ondevice models import {wish.weights}`",
            )
        )
    architecture, factory = str(card.get("architecture") or ""), str(card.get("factory") or "")
    key, asked, has = (
        ("model.factory", wish.factory, factory)
        if wish.factory or factory
        else ("model.architecture", wish.architecture, architecture)
    )
    if asked != has and not new:
        found.append(
            Change(
                key,
                f"{asked or wish.architecture} is asked for, {version} ({has or architecture}) stays live",
                "bring in a model of the other kind with `dance-ondevice models import DIR` (`dance-ondevice "
                "pretrain` makes one), or set the key back",
            )
        )
    return tuple(found)


def check_classes(card: Mapping[str, Any], classes: Sequence[str], what: str) -> None:
    """Check that a model is for the classes of the service, in their order.

    Args:
        card: The model's card.
        classes: Value of ``model.classes``.
        what: Name of the model, for the error.

    Raises:
        VersionError: It is for other classes.
    """
    found = card.get("classes")
    if not isinstance(found, (list, tuple)) or list(found) != list(classes):
        same = isinstance(found, (list, tuple)) and sorted(map(_plain, found)) == sorted(map(_plain, classes))
        why = "the same in another order or spelling, so its ids mean other things; " if same else ""
        raise VersionError(
            f"{what} is for other classes ({_shown(found)}) than model.classes ({_shown(classes)}): {why}"
            "`dance-ondevice pretrain --init` with --class-map makes one for yours of it "
            "(docs/your-own-data.md)"
        )


def _plain(name: object) -> str:
    return str(name).strip().casefold()


def _shown(classes: object) -> str:
    return ", ".join(map(str, classes)) if isinstance(classes, (list, tuple)) else "none"


def copy_in(
    source: Path,
    scratch: Path,
    classes: Sequence[str],
    *,
    procfs: Path = Path("/proc"),
    beat: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Copy a model into a scratch folder, check it there and run it; returns its card.

    Args:
        source: Folder of the model, or one of its two files.
        scratch: Folder to create; an existing one is removed.
        classes: Classes that the model must be for, in their order.
        procfs: Where procfs is mounted.
        beat: Called several times a second while the model is tried.

    Raises:
        OSError: It cannot be read or copied.
        ValueError: It is not a model, is for other classes, or does not run; the scratch folder is removed.
    """
    folder = folder_of(source)
    if not (folder / CARD).is_file():
        raise VersionError(_no_model(folder))
    card = read_card(folder)
    check_classes(card, classes, str(folder))
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        for name in (TENSORS, CARD):
            shutil.copyfile(folder / name, scratch / name)
        tryout.check(scratch, procfs=procfs, beat=beat)
        for name in _OF_ITS_SERVICE:
            card.pop(name, None)
        training = card.get("training")
        if isinstance(training, dict):
            # The round of another board may have the name of one here.
            card["training"] = {k: v for k, v in training.items() if k not in ("round", "condition")}
        write_durably(scratch / CARD, json.dumps(card, indent=1).encode())
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if isinstance(error, ValueError):
            # The scratch folder is gone; the user knows the model by its source.
            raise VersionError(str(error).replace(str(scratch), str(folder))) from error
        raise
    return card


def _no_model(folder: Path) -> str:
    """The reason why a path without a card is no model, and what to do instead."""
    held = "it is a file"
    if folder.is_dir():
        names = sorted(path.name for path in folder.iterdir())
        held = (
            f"it holds {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}" if names else "it is empty"
        )
    return (
        f"{folder} is no model that can be brought in: there is no {CARD} in it ({held}). Give a folder that "
        "`dance-ondevice pretrain` made, or models/VERSION of another state; of weights alone "
        "`dance-ondevice pretrain --init` with --class-map makes one (docs/your-own-data.md)"
    )


def adopt(
    versions: Versions,
    paths: StatePaths,
    scratch: Path,
    *,
    source: str,
    fingerprint: str,
    status: str = "candidate",
    changes: Mapping[str, object] | None = None,
) -> str:
    """Adopt a model that was tried as a version of this state folder, and record its fingerprint."""
    note_taken(paths, fingerprint)
    about = {"parent": None, "imported": {"from": source, "sha256": fingerprint}, **(changes or {})}
    return versions.adopt(scratch, status=status, round_id=None, changes=about)


class ModelChanges:
    """Properties of the model that are configured but not applied, for ``status`` and reloads.

    Read from the disk once and then compared with the live model from memory; any thread may call ``found``.
    """

    def __init__(self, config: Config, versions: Versions, paths: StatePaths) -> None:
        self._versions = versions
        self._paths = paths
        self._wish = wanted(config)
        self._classes = tuple(config.model.classes)
        self._known: tuple[object, frozenset[str]] = (None, frozenset())
        for change in self.found():
            log.warning("model not as configured %s", change)

    def found(self) -> tuple[Change, ...]:
        """The present differences."""
        return self._of(self._wish)

    def unapplied(self, config: Config) -> Mapping[str, str]:
        """Keys that a restart with another configuration would not apply, and what to do instead for each."""
        live = self._versions.live()
        if live is None or is_untrained(live.card):
            return {}
        found = {change.key: f"{change.text}; {change.remedy}" for change in self._of(wanted(config))}
        if tuple(config.model.classes) != self._classes:
            found["model.classes"] = (
                "a start refuses other classes than those of the state folder; a class is added with "
                "`dance-ondevice classes append NAME`"
            )
        return found

    def _of(self, wish: Wanted) -> tuple[Change, ...]:
        live = self._versions.live()
        if live is None:
            return ()
        version = live.pointer.version
        try:
            since: object = (self._paths.models / "taken.json").stat().st_mtime_ns
        except OSError:
            since = version
        if self._known[0] != since:
            self._known = (since, taken(self._paths))
        return changes(wish, version, live.card, self._known[1])
