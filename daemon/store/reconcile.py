"""Reconciles files and index at start-up. The files decide: no image is deleted because of the index."""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from dance_ondevice.complexity import grey_reduction
from dance_ondevice.daemon.store import label_source
from dance_ondevice.daemon.store.index_file import SALVAGED, open_index
from dance_ondevice.daemon.store.rebuild import Roles, restore_versions
from dance_ondevice.daemon.store.rows import bring_back, set_aside
from dance_ondevice.daemon.store.samples import LabelMismatch, image_digest, native_size
from dance_ondevice.daemon.store.scan import ImageFile, Scan, scan
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.files import is_leftover, read_regular
from dance_ondevice.images.codec import decode_grey, decode_label
from dance_ondevice.images.headers import ImageError, check_complete, probe
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.images.signature import signature

log = logging.getLogger(__name__)

Score = Callable[[NDArray[np.uint8]], float]

#: Files read between two commits: a rebuild that is interrupted goes on from the last of them.
_BATCH = 200
_NAMED = 5  # files that a log line about many of them names

_RECOUNT = """
UPDATE sample_totals SET (labelled, unlabelled, bytes) =
    (SELECT count(label_path), count(*) - count(label_path), coalesce(sum(bytes), 0) FROM samples)
"""


@dataclass(frozen=True, kw_only=True)
class ReconcileReport:
    """The findings and changes of one reconciliation.

    Attributes:
        index: ``sound``, ``created`` where there was nothing to index, or ``rebuilt`` from the files.
        fault: Why a new index was made; empty if it was not.
        moved_aside: The old index's files under their new names.
        history_lost: Whether the old index's records of rounds, joules and budget are lost, at least in part.
        samples: Samples in the index now.
        adopted: Images that had no row.
        returned: Images that came back, and got the row that they had.
        removed: Rows whose image was gone; they are kept aside.
        labels_attached: Labels found beside images of known samples.
        labels_detached: Labels that the index had and whose files were gone.
        strays: Half-written files that were deleted.
        unreadable: Damaged images and labels of samples; left where they are.
        unknown: Files and folders that do not belong to the store; left where they are.
        versions: Model versions that had no row.
    """

    index: Literal["sound", "created", "rebuilt"]
    fault: str = ""
    moved_aside: tuple[Path, ...] = ()
    history_lost: bool = False
    samples: int = 0
    adopted: int = 0
    returned: int = 0
    removed: int = 0
    labels_attached: int = 0
    labels_detached: int = 0
    strays: int = 0
    unreadable: int = 0
    unknown: int = 0
    versions: int = 0

    def __str__(self) -> str:
        shown: dict[str, object] = {each.name: getattr(self, each.name) for each in fields(self)}
        shown |= {"fault": repr(self.fault), "moved_aside": ",".join(path.name for path in self.moved_aside)}
        return " ".join(f"{name}={value}" for name, value in shown.items())


def reconcile(
    paths: StatePaths, *, score: Score | None = None, on_progress: Callable[[], None] = lambda: None
) -> ReconcileReport:
    """Make the index match the files; run before the store starts, under the state directory's lock.

    Half-written files of the store and rows without an image are deleted, images without a row are adopted,
    and labels follow their images. Other files are left alone. A missing or damaged index is replaced.

    Args:
        paths: The state directory.
        score: Spatial complexity of ``(h, w)`` uint8 luma, for adopted images; they score 0 without it.
        on_progress: Called every few hundred files.

    Raises:
        SchemaTooNew: A later version wrote the index.
        sqlite3.OperationalError: The index cannot be opened, and not because it is damaged.
        OSError: A folder cannot be read.
    """
    return _run(paths, score, on_progress, anew=False)


def rebuild_index(
    paths: StatePaths, *, score: Score | None = None, on_progress: Callable[[], None] = lambda: None
) -> ReconcileReport:
    """Move the index aside, sound or not, and make a new one from the files; otherwise like ``reconcile``."""
    return _run(paths, score, on_progress, anew=True)


def _run(
    paths: StatePaths, score: Score | None, on_progress: Callable[[], None], *, anew: bool
) -> ReconcileReport:
    paths.samples.mkdir(parents=True, exist_ok=True)
    found = scan(paths)
    opened = open_index(paths, anew=anew)
    with contextlib.closing(opened.db) as db:
        counts = _Repair(paths, db, score, on_progress).run(found)
        (samples,) = db.execute("SELECT count(*) FROM samples").fetchone()
    something = bool(opened.moved_aside or found.images or counts["versions"])
    report = ReconcileReport(
        index="sound" if not opened.fault else "rebuilt" if something else "created",
        fault=opened.fault if something else "",
        moved_aside=opened.moved_aside,
        history_lost=bool(opened.fault) and something and set(opened.salvaged) < set(SALVAGED),
        samples=samples,
        adopted=counts["adopted"],
        returned=counts["returned"],
        removed=counts["removed"],
        labels_attached=counts["labels_attached"],
        labels_detached=counts["labels_detached"],
        strays=counts["strays"],
        unreadable=counts["unreadable"],
        unknown=len(found.unknown),
        versions=counts["versions"],
    )
    if found.unknown:
        named = " ".join(str(path.relative_to(paths.root)) for path in found.unknown[:_NAMED])
        log.warning("unknown files left alone count=%d first=%s", len(found.unknown), named)
    if report.index == "rebuilt":
        log.error("index rebuilt from files %s", report)
    else:
        log.info("index reconciled %s", report)
    return report


class _Repair:
    """The work of one reconciliation, and its counts."""

    def __init__(
        self, paths: StatePaths, db: Database, score: Score | None, on_progress: Callable[[], None]
    ) -> None:
        self._paths = paths
        self._db = db
        self._score = score
        self._on_progress = on_progress
        self._counts: Counter[str] = Counter()

    def run(self, found: Scan) -> Counter[str]:
        self._delete_strays(found)
        orphans = self._compare_rows(found)
        if orphans:
            self._adopt(orphans)
        self._counts["versions"] = restore_versions(self._db, self._paths)
        with self._db.atomic():
            self._db.execute(_RECOUNT)
        return self._counts

    def _delete_strays(self, found: Scan) -> None:
        strays = list(found.strays)
        below = (self._paths.models, self._paths.rounds, self._paths.root / "teaching")
        candidates = [*self._paths.root.iterdir(), *(path for each in below for path in each.rglob(".*"))]
        strays += [path for path in candidates if is_leftover(path.name) and path.is_file()]
        for path in strays:
            path.unlink(missing_ok=True)
        self._counts["strays"] = len(strays)

    def _compare_rows(self, found: Scan) -> list[ImageFile]:
        """Correct the rows; returns the images that have none."""
        orphans = dict(found.images)
        kept: set[str] = set()
        gone: list[str] = []
        changed: list[tuple[ImageFile, str | None, tuple[int, int]]] = []
        suspect: list[ImageFile] = []
        for identifier, path, size, label, width, height, unreadable in self._db.execute(
            "SELECT id, path, bytes, label_path, native_width, native_height, unreadable FROM samples"
        ):
            image = orphans.pop(path, None)
            if image is None and not (self._paths.root / path).exists():
                gone.append(identifier)
                continue
            kept.add(identifier)
            # An existing image that was not listed is a symbolic link of the user's: its row stays as it is.
            if image is not None and (image.label != label or image.bytes + image.label_bytes != size):
                changed.append((image, label, (width, height)))
            if image is not None and (unreadable or image.bytes + image.label_bytes != size):
                suspect.append(image)
        with self._db.atomic():
            set_aside(self._db, gone)
            for image, label, native in changed:
                self._follow_label(image, label, native)
            for image in suspect:
                self._look_again(image)
        self._counts["removed"] = len(gone)
        if gone and not kept:
            log.error(
                "all %d images of the index are gone: if %s is a disk of its own, mount it and start again; "
                "what is known of them is kept until then",
                len(gone), self._paths.samples,
            )  # fmt: skip
        ours: dict[str, ImageFile] = {}
        for image in orphans.values():
            if image.id in kept or image.id in ours:  # another format of a stored frame
                found.unknown.append(self._paths.root / image.path)
            else:
                ours[image.id] = image
        return list(ours.values())

    def _look_again(self, image: ImageFile) -> None:
        """Mark a sample whose image is damaged; one that was mended serves again."""
        error = None
        try:
            data = read_regular(self._paths.root / image.path)
            info = probe(data)
            check_complete(data, info)
            decode_grey(data, grey_reduction(info.height, info.width))
        except (OSError, ImageError) as failure:
            error = f"{self._paths.root / image.path}: {failure}"
            self._counts["unreadable"] += 1
            log.warning("image unreadable path=%s error=%s", self._paths.root / image.path, failure)
        self._db.execute("UPDATE samples SET unreadable = ? WHERE id = ?", [error, image.id])

    def _follow_label(self, image: ImageFile, known: str | None, native: tuple[int, int]) -> None:
        """Update a row's size and label from its files."""
        values: dict[str, object] = {"id": image.id, "bytes": image.bytes + image.label_bytes}
        label = self._label(image, native, native)
        if label is not None:
            values |= {"path": image.label, "classes": label[1]}
            self._counts["labels_attached"] += known is None
            # A model's label names its author itself: the row may still describe the label before or after
            # it, whose file a crash kept from being written or removed.
            values |= {"source": label[2]}
            changes = (
                "label_path = :path, classes = :classes, label_source = coalesce(:source, "
                "CASE WHEN label_source IN ('teacher', 'self') THEN NULL ELSE label_source END, 'file')"
            )
        else:
            self._counts["labels_detached"] += known is not None
            changes = "label_path = NULL, classes = NULL, label_source = NULL"
        self._db.execute(f"UPDATE samples SET bytes = :bytes, {changes} WHERE id = :id", values)

    def _adopt(self, orphans: Sequence[ImageFile]) -> None:
        roles = Roles.of(self._paths)
        # The order in which they were written is the order in which they came.
        in_order = sorted(orphans, key=lambda each: (each.written_at, each.captured_at, each.path))
        for batch in _batches(in_order):
            with self._db.atomic():
                for image in batch:
                    self._adopt_one(image, roles)
            self._on_progress()

    def _adopt_one(self, image: ImageFile, roles: Roles) -> None:
        row = self._read_back(image, roles)
        if row is None:
            return
        before = bring_back(self._db, image.id, image.path, str(row["digest"]))
        if before is None:
            self._db.table("samples").insert(row)
            self._counts["adopted"] += 1
            return
        self._counts["returned"] += 1
        if before["label_path"] != image.label or before["bytes"] != image.bytes + image.label_bytes:
            self._follow_label(image, before["label_path"], (before["native_width"], before["native_height"]))

    def _read_back(self, image: ImageFile, roles: Roles) -> dict[str, object] | None:
        """A row made from the image alone; None when the image is damaged."""
        file = self._paths.root / image.path
        try:
            data = read_regular(file)
            info = probe(data)
            check_complete(data, info)
            grey = decode_grey(data, grey_reduction(info.height, info.width))
            score = 0.0 if self._score is None else self._score(grey)
        except (OSError, ImageError) as error:
            self._counts["unreadable"] += 1
            log.warning("image not adopted path=%s error=%s", file, error)
            return None
        stored = (info.width, info.height)
        label = self._label(image, stored, None)
        native = stored if label is None else label[0]
        return {
            "id": image.id,
            "camera": image.camera,
            "seq": image.seq,
            "captured_at": image.captured_at,
            "received_at": image.written_at,
            "path": image.path,
            "format": file.suffix[1:],
            "width": stored[0],
            "height": stored[1],
            "native_width": native[0],
            "native_height": native[1],
            "bytes": image.bytes + image.label_bytes,
            "digest": image_digest(data),
            "received_digest": image_digest(data),
            "score": score,
            "quantile": 0.5,
            "scale": stored[0] / native[0],
            "weight": 1.0,
            "reason": "read back from its file",
            "label_path": None if label is None else image.label,
            "label_source": None if label is None else label[2] or "file",
            "classes": None if label is None else label[1],
            "split": roles.split(image.id),
            "rounds_used": roles.rounds_used(image.id),
            "origin": "rebuilt",
            "signature": signature(grey),
        }

    def _label(
        self, image: ImageFile, stored: tuple[int, int], native: tuple[int, int] | None
    ) -> tuple[tuple[int, int], str, str | None] | None:
        """Native size, classes (JSON) and author, if a model, of a label; None without a valid one."""
        if image.label is None:
            return None
        file = self._paths.root / image.label
        try:
            png = read_regular(file)
            size = native_size(png, stored, native)
            counts = np.bincount(decode_label(png).ravel(), minlength=IGNORE + 1)
        except (OSError, ImageError, LabelMismatch) as error:
            self._counts["unreadable"] += 1
            log.warning("label not attached path=%s error=%s", file, error)
            return None
        classes = json.dumps([int(i) for i in np.flatnonzero(counts[:IGNORE])])
        return size, classes, label_source.read(png)


def _batches(images: Sequence[ImageFile]) -> Iterator[Sequence[ImageFile]]:
    return (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
