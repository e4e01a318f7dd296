"""Lists the folder ``samples``: images and labels of samples, leftovers of writes, and other files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dance_ondevice.daemon.store.samples import FORMATS, LABEL_SUFFIX
from dance_ondevice.daemon.system.state import CAMERA_NAME, StatePaths, parse_sample_id
from dance_ondevice.files import leftover_of

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image whose name is a sample id, and its label.

    Attributes:
        id: Sample id.
        camera: The camera's name.
        captured_at: Seconds since the epoch.
        seq: Sequence number.
        path: Relative to the state directory.
        bytes: Size of the image.
        written_at: When it was written, wall-clock seconds.
        label: The label's path, relative to the state directory, or None.
        label_bytes: Size of the label, 0 without one.
    """

    id: str
    camera: str
    captured_at: float
    seq: int
    path: str
    bytes: int
    written_at: float
    label: str | None
    label_bytes: int


@dataclass(frozen=True)
class Scan:
    """Every entry under ``samples``.

    Attributes:
        images: Images by their path relative to the state directory.
        strays: Files that a write left behind before its rename.
        unknown: Files and folders that do not belong to the store; a folder counts once.
    """

    images: dict[str, ImageFile] = field(default_factory=dict)
    strays: list[Path] = field(default_factory=list)
    unknown: list[Path] = field(default_factory=list)


def scan(paths: StatePaths) -> Scan:
    """List the stored files without opening any.

    Raises:
        OSError: A folder cannot be listed; without its samples no index must be made.
    """
    found = Scan()
    if not paths.samples.exists():
        return found
    for camera in _entries(paths.samples):
        if not (camera.is_dir() and CAMERA_NAME.fullmatch(camera.name)):
            found.unknown.append(Path(camera.path))
            continue
        for day in _entries(Path(camera.path)):
            if day.is_dir() and _DAY.fullmatch(day.name):
                _scan_day(paths, camera.name, Path(day.path), found)
            else:
                found.unknown.append(Path(day.path))
    return found


def _scan_day(paths: StatePaths, camera: str, folder: Path, found: Scan) -> None:
    images: list[tuple[str, str, os.stat_result]] = []
    labels: dict[str, tuple[str, int]] = {}
    for entry in _entries(folder):
        name = entry.name
        target = _temporary_for(name)
        stray = target is not None
        kind = _kind(camera, target or name)
        if kind is None or not entry.is_file(follow_symlinks=False):
            found.unknown.append(folder / name)
        elif stray:
            found.strays.append(folder / name)
        elif kind[1] == LABEL_SUFFIX:
            labels[kind[0]] = (name, entry.stat().st_size)
        else:
            images.append((kind[0], name, entry.stat()))
    relative = folder.relative_to(paths.root)
    for identifier, name, found_as in images:
        numbers = parse_sample_id(camera, identifier)
        assert numbers is not None
        label = labels.pop(identifier, None)
        path = str(relative / name)
        found.images[path] = ImageFile(
            id=identifier,
            camera=camera,
            captured_at=numbers[0],
            seq=numbers[1],
            path=path,
            bytes=found_as.st_size,
            written_at=found_as.st_mtime,
            label=None if label is None else str(relative / label[0]),
            label_bytes=0 if label is None else label[1],
        )
    found.unknown.extend(folder / name for name, _ in labels.values())


def _kind(camera: str, name: str) -> tuple[str, str] | None:
    """Split a name into sample id and suffix; None unless both belong to a sample."""
    for suffix in (LABEL_SUFFIX, *(f".{extension}" for extension in FORMATS)):
        identifier = name.removesuffix(suffix)
        if identifier != name and parse_sample_id(camera, identifier) is not None:
            return identifier, suffix
    return None


def _temporary_for(name: str) -> str | None:
    """The name that a half-written file was to get; None for a file that is not half-written."""
    target = leftover_of(name)
    if target is None and name.startswith(".") and name.endswith(".tmp"):
        return name[1:-4]  # as earlier versions named them
    return target


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from sorted(entries, key=lambda entry: entry.name)
