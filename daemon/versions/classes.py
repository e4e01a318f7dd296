"""The classes of a state folder: fixed from the first label on, and only ever appended to.

A stored label is an image of class ids. If the list of classes changed later, a car would silently become a
pedestrian, so ``classes.json`` keeps the list that the labels were made for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from dance_ondevice.daemon.config.load import ConfigError, Problem
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions.base import is_untrained
from dance_ondevice.daemon.versions.versions import VersionError, Versions
from dance_ondevice.daemon.versions.widen import widened
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import read_regular, write_durably

__all__ = ["append", "check", "known", "remember"]

log = logging.getLogger(__name__)


def known(paths: StatePaths) -> tuple[str, ...]:
    """The classes that the labels of a state folder were made for; empty before its first start."""
    try:
        return tuple(decode(read_regular(paths.root / "classes.json"), list[str]))
    except FileNotFoundError:
        return ()
    except (OSError, DocumentError) as error:
        log.warning("classes unreadable file=%s error=%s", paths.root / "classes.json", error)
        return ()


def remember(paths: StatePaths, classes: Sequence[str]) -> None:
    """Store a list of classes in the state folder."""
    write_durably(paths.root / "classes.json", json.dumps(list(classes)).encode())


def check(
    config: Config, config_file: str, paths: StatePaths, live: Mapping[str, Any] | None, *, labelled: int
) -> None:
    """Compare the configured classes with those of the state folder, and store them there.

    Args:
        config: The whole configuration.
        config_file: Name of its file, for errors.
        paths: Paths of the state folder.
        live: Card of the live model, None where there is none.
        labelled: Number of samples with a label.

    Raises:
        ConfigError: There are labels, or there is a trained model, for other classes.
    """
    asked = tuple(config.model.classes)
    kept = known(paths) or (tuple(live.get("classes") or ()) if live else ())
    if kept == asked or not kept:
        if known(paths) != asked:
            remember(paths, asked)
        return
    if not labelled and (live is None or is_untrained(live)):
        log.info("classes changed from=%s to=%s reason=nothing is labelled yet", list(kept), list(asked))
        remember(paths, asked)
        return
    raise ConfigError((problem(config_file, paths, kept, asked),))


def problem(config_file: str, paths: StatePaths, kept: Sequence[str], asked: Sequence[str]) -> Problem:
    """The problem of classes that differ from those of the state folder, with each remedy."""
    added = list(asked[len(kept) :]) if list(asked[: len(kept)]) == list(kept) else []
    if added:
        commands = " and ".join(
            f"`dance-ondevice classes append {name!r} --state-dir {paths.root}`" for name in added
        )
        allowed = f"these once {commands} has run, which keeps samples and models"
    else:
        allowed = "classes appended to that list (`dance-ondevice classes append NAME`)"
    return Problem(
        config_file,
        "model.classes",
        f"{list(asked)}, while the labels and models in {paths.root} are for {list(kept)}",
        f"{list(kept)}; or {allowed}; or another daemon.state_dir for a state with other classes",
    )


def append(paths: StatePaths, versions: Versions, kept: Sequence[str], name: str) -> tuple[str, ...]:
    """Add a class at the end: the live and the first version get an output for it, labels stay as they are.

    If it is interrupted, it can be called again with the same name.

    Args:
        paths: Paths of the state folder.
        versions: Its versions; nothing else may write there.
        kept: The classes so far.
        name: Name of the new class.

    Returns:
        All classes.

    Raises:
        VersionError: The name cannot be used, or a version cannot be widened; nothing has changed.
    """
    longer = (*kept, name)
    if not name.strip() or name in kept or len(longer) > 255:
        raise VersionError(
            f"{name!r} cannot be appended to {list(kept)}: give another name; there are 255 classes at most"
        )
    pointer = versions.pointer()
    if pointer is not None:
        folders = [versions.directory(v) for v in dict.fromkeys((pointer.frozen, pointer.version))]
        to_widen = [f.name for f in folders if tuple(versions.card(f.name).get("classes") or ()) != longer]
        new = {}
        for version in to_widen:
            widened(versions.directory(version), paths.models / f".wide-{version}", longer)
        for version in to_widen:
            new[version] = versions.adopt(
                paths.models / f".wide-{version}",
                status="candidate",
                round_id=None,
                changes=_of(versions, version),
            )
        if new:
            frozen = new.get(pointer.frozen, pointer.frozen)
            versions.replace_all(new.get(pointer.version, pointer.version), frozen=frozen)
    remember(paths, longer)
    return longer


def _of(versions: Versions, version: str) -> dict[str, object]:
    """Fields of a widened version's card about its origin; the round is that of the original."""
    training = versions.card(version).get("training")
    kept = {k: v for k, v in training.items() if k != "round"} if isinstance(training, dict) else {}
    return {"parent": version, "training": kept}
