"""Chooses the images that are most worth labelling by a person, and writes them with a manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlite_utils import Database

from dance_ondevice.daemon.curation.manifest import LABELS_FOLDER, MANIFEST, manifest
from dance_ondevice.daemon.store.labelled import labelled_samples
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.files import read_regular
from dance_ondevice.images.codec import decode_grey
from dance_ondevice.images.headers import ImageError, probe, without_exif
from dance_ondevice.images.signature import signature
from dance_ondevice.policies.samples import labelling
from dance_ondevice.policies.samples.splits import SampleInfo

__all__ = ["Exported", "Unlabelled", "choose", "unlabelled", "write"]

#: Signatures are computed from a reduced decode of at least this longer side, as at ingest.
_SIGNED_SIDE = 320
_COLUMNS = (
    "id, camera, captured_at, path, width, height, native_width, native_height, score, weight, uncertainty, "
    "condition, signature"
)


@dataclass(frozen=True)
class Unlabelled:
    """A stored sample without a label: its values for the policy, and its row."""

    info: SampleInfo
    row: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The chosen images.

    Attributes:
        images: Entries of the manifest, in the order to label them.
        candidates: Number of samples without a label.
        duplicates: Number of candidates that were left out as near-duplicates.
    """

    images: tuple[Mapping[str, object], ...]
    candidates: int
    duplicates: int

    @property
    def seconds(self) -> float:
        """Seconds from the first of the images to the last, as they were taken."""
        times = [float(str(image["captured_at"])) for image in self.images]
        return max(times) - min(times) if times else 0.0

    @property
    def reduced(self) -> int:
        """Images that are stored smaller than they came."""
        return sum(map(_is_reduced, self.images))


def unlabelled(db: Database, *, camera: str | None = None, most: int | None = None) -> list[Unlabelled]:
    """The samples without a label, oldest first.

    Args:
        db: The index.
        camera: Only samples of this camera; None for all.
        most: About the most samples to return; of more than that, half are those that the live model was
            least sure of, and half lie evenly among all. None for every sample.
    """
    where = "label_path is null and unreadable is null"
    given: dict[str, object] = {}
    if camera is not None:
        where, given = f"{where} and camera = :camera", {"camera": camera}
    if most is not None:
        count = db.execute(f"select count(*) from samples where {where}", given).fetchone()[0]
        if count > most:
            given |= {"step": 2 * count // most + 1, "half": most // 2}
            where += (
                f" and (arrival % :step = 0 or id in (select id from samples where {where} "
                "order by uncertainty desc limit :half))"
            )
    rows = db.query(f"select {_COLUMNS} from samples where {where} order by captured_at, id", given)
    return [
        Unlabelled(
            SampleInfo(
                id=row["id"],
                camera=row["camera"],
                captured_at=row["captured_at"],
                score=row["score"] or 0.0,
                weight=row["weight"] or 1.0,
                labelled=False,
                uncertainty=row["uncertainty"],
                condition=row["condition"] or "",
                signature=row["signature"] or "",
            ),
            row,
        )
        for row in rows
    ]


def choose(
    db: Database,
    paths: StatePaths,
    count: int,
    *,
    camera: str | None = None,
    uncertainty: Callable[[Path], float | None] | None = None,
    most: int | None = None,
) -> Exported:
    """Choose the samples most worth a label.

    Args:
        db: The index.
        paths: The state folder.
        count: The most samples to choose.
        camera: Only samples of this camera; None for all.
        uncertainty: Returns the live model's uncertainty on an image, for samples without a stored one; None
            to leave it out.
        most: Look at about so many samples with and without a label at most; None for all.
    """
    found = unlabelled(db, camera=camera, most=most)
    rows = {each.info.id: each.row for each in found}
    listed = labelling.shortlist([each.info for each in found], count)
    looked_at: list[SampleInfo] = []
    for info in listed:
        image = paths.root / str(rows[info.id]["path"])
        signed = info.signature or sign(image)
        if signed is None:
            continue  # missing or damaged: it cannot be labelled
        unsure = info.uncertainty
        if unsure is None and uncertainty is not None:
            unsure = uncertainty(image)
        looked_at.append(replace(info, signature=signed, uncertainty=unsure))
    labelled = labelled_samples(db, newest=most)
    reduced = {info.id for info in looked_at if _is_reduced(rows[info.id])}
    chosen = labelling.choose_for_labelling(looked_at, count, labelled=labelled, reduced=reduced)
    worth = labelling.labelling_values(looked_at, labelled, reduced)
    by_id = {info.id: info for info in looked_at}
    return Exported(
        images=tuple(_entry(rows[i], by_id[i], worth[i]) for i in chosen.ids),
        candidates=len(found),
        duplicates=len(chosen.duplicates),
    )


def write(paths: StatePaths, exported: Exported, folder: Path, classes: Sequence[str]) -> None:
    """Copy the images into ``folder/images``, make ``folder/labels``, write the manifest last.

    The copies have no EXIF data: a tool that applied an orientation would show a different image from the
    stored one.

    Raises:
        OSError: The folder cannot be written.
    """
    for name in ("images", LABELS_FOLDER):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for image in exported.images:
        data = read_regular(paths.root / str(image["stored"]))
        (folder / str(image["file"])).write_bytes(without_exif(data))
    (folder / MANIFEST).write_bytes(manifest(exported.images, classes))


def sign(image: Path) -> str | None:
    """The signature of an image file; None when it cannot be read."""
    try:
        data = read_regular(image)
        info = probe(data)
        longer = max(info.width, info.height)
        return signature(decode_grey(data, next((r for r in (8, 4, 2) if longer >= r * _SIGNED_SIDE), 1)))
    except (OSError, ImageError):
        return None


def _is_reduced(row: Mapping[str, object]) -> bool:
    return row["native_width"] is not None and row["width"] != row["native_width"]


def _entry(row: Mapping[str, object], info: SampleInfo, value: float) -> dict[str, object]:
    stored = str(row["path"])
    return {
        "id": info.id,
        "file": f"images/{Path(stored).name}",
        "stored": stored,
        "label": f"{LABELS_FOLDER}/{info.id}.png",
        "width": row["width"],
        "height": row["height"],
        "native_width": row["native_width"],
        "native_height": row["native_height"],
        "camera": info.camera,
        "captured_at": info.captured_at,
        "score": info.score,
        "uncertainty": info.uncertainty,
        "condition": info.condition or None,
        "value": value,
    }
