"""The doctor's check of stored samples, versions and anchors: whether their files can be read."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.curation.unreadable import REMEDY, file_fault
from dance_ondevice.daemon.doctor.finding import Check
from dance_ondevice.daemon.planning import anchors
from dance_ondevice.daemon.store.service import connect_read_only
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions.versions import check_intact
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import read_regular
from dance_ondevice.images.codec import decode_label
from dance_ondevice.images.headers import ImageError, check_complete, probe
from dance_ondevice.images.labels import LabelError, check_label
from dance_ondevice.policies.rounds.rehearsal import anchor_id

__all__ = ["check_anchors", "check_samples", "check_versions"]

_NAMED = 3


def check_samples(paths: StatePaths) -> Check | None:
    """Check that every stored sample has its files, by size and first bytes; None where there are none.

    Rounds decode the files of the samples that they use.
    """
    name = "samples"
    if not paths.database.is_file():
        return None
    try:
        with contextlib.closing(connect_read_only(paths.database)) as connection:
            columns = {row[1] for row in connection.execute("PRAGMA table_info(samples)")}
            marked = "unreadable" if "unreadable" in columns else "NULL"
            rows = connection.execute(f"SELECT id, path, label_path, bytes, {marked} FROM samples").fetchall()
            faults = {row[0]: fault for row in rows if (fault := _fault(paths, *row))}
            # The daemon may have removed some of them in the meantime.
            there = {row[0] for row in connection.execute("SELECT id FROM samples")} if faults else set()
    except sqlite3.Error as error:
        return Check(name, "warning", f"{paths.database}: {error}", "see the line about the database")
    if not rows:
        return None
    told = [fault for identifier, fault in faults.items() if identifier in there]
    if not told:
        return Check(name, "ok", f"all {len(rows)} have their files")
    detail = f"{len(told)} of {len(rows)} cannot be read: {_first(told)}"
    return Check(name, "warning", detail, f"rounds leave them out; {REMEDY}")


def check_versions(paths: StatePaths) -> Check | None:
    """Check that every model version has its card and matching tensors; None where there are none."""
    name = "versions"
    if not paths.models.is_dir():
        return None
    folders = [each for each in sorted(paths.models.iterdir()) if each.is_dir() and each.name[:1] != "."]
    if not folders:
        return None
    faults = {}
    for folder in folders:
        try:
            check_intact(folder)
        except (OSError, ValueError) as error:
            if folder.is_dir():  # else it was pruned in the meantime
                faults[folder.name] = str(error)
    if not faults:
        return Check(name, "ok", f"all {len(folders)} are whole")
    told = _first([f"{version}: {why}" for version, why in faults.items()])
    detail = f"{len(faults)} of {len(folders)} are damaged: {told}"
    try:
        live = decode(read_regular(paths.live_file), dict[str, object]).get("version")
    except (OSError, DocumentError):
        live = None
    if live in faults:
        remedy = f"{live} is live: restart the daemon, which puts the next best version in its place"
        return Check(name, "failure", detail, remedy)
    return Check(name, "warning", detail, "nothing needs them but a rollback; remove their folders")


def check_anchors(config: Config, cache: Path) -> Check | None:
    """Check that every anchor can be read and has ids of the configured classes; None where there are none.

    Args:
        config: The whole configuration.
        cache: Folder for rewritten labels.
    """
    folder = config.training.anchors
    if not folder:
        return None
    name = "anchors"
    try:
        names = anchors.names(folder)
        samples = anchors.job_samples(folder, [anchor_id(each) for each in names], cache)
    except (anchors.AnchorError, OSError) as error:
        return Check(name, "failure", str(error), "no round starts meanwhile: set training.anchors")
    faults = list(_anchor_faults([(s.image, s.label) for s in samples], len(config.model.classes)))
    if not faults:
        return Check(name, "ok", f"all {len(samples)} in {folder} can be read")
    detail = f"{len(faults)} of {len(samples)} cannot be read: {_first(faults)}"
    return Check(name, "warning", detail, "rounds leave them out; repair or remove them")


def _first(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    return "; ".join(faults[:_NAMED]) + more


def _fault(  # noqa: PLR0917 - a row
    paths: StatePaths, identifier: str, path: str, label: str | None, size: int, marked: str | None
) -> str:
    """What is wrong with a sample's files; empty if nothing is."""
    files = [paths.root / path, *([paths.root / label] if label else [])]
    found = 0
    for file in files:
        try:
            found += file.stat().st_size
        except OSError as error:
            return f"{file}: {error.strerror}"
        if fault := file_fault(file):
            return fault
    if marked:
        return f"{identifier}: {marked}" if identifier not in marked else marked
    return f"{identifier}: {found} bytes, {size} were stored" if found != size else ""


def _anchor_faults(pairs: list[tuple[str, str]], n_classes: int) -> Iterator[str]:
    for image, label in pairs:
        try:
            data = read_regular(Path(image))
            check_complete(data, probe(data))
        except (OSError, ImageError) as error:
            yield f"{image}: {error}"
            continue
        try:
            check_label(decode_label(read_regular(Path(label))), n_classes)
        except (OSError, ImageError, LabelError) as error:
            yield f"{label}: {error}"
