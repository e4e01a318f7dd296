"""Finds the stored sample that a file of labels belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from dance_ondevice.images.labels import LabelError
from dance_ondevice.label_formats import names

__all__ = ["Target", "Targets", "fitted"]

_COLUMNS = (
    "id, camera, captured_at, path, width, height, native_width, native_height, label_path, label_source"
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """The sample that a label belongs to.

    Attributes:
        sample: The sample's id.
        camera: Its camera.
        captured_at: Seconds since the epoch.
        image: Path of its image, relative to the state folder.
        stored: (width, height) of that image.
        native: (width, height) of the frame as captured.
        label: Path of its present label, relative to the state folder; None without one.
        source: Source of that label.
    """

    sample: str
    camera: str
    captured_at: float
    image: str
    stored: tuple[int, int]
    native: tuple[int, int]
    label: str | None
    source: str | None


class Targets:
    """Finds the sample of a file name in the index."""

    def __init__(self, database: Database, camera: str | None) -> None:
        """``camera``: match by the name's last number, the sequence number, among its samples."""
        self._database = database
        self._camera = camera
        rows = database.query("select distinct camera from samples")
        self._others = frozenset(row["camera"] for row in rows) - {camera}

    def find(self, name: str) -> Target | None:
        """The one sample that a file's path means, by the rule of ``names.stems``, else by its number.

        None where there is no such sample, or several with that number. The number in a sample's id is not
        looked for: a sample that is gone must not lend its label to another one of that number. Nor is one in
        a folder that is called as another camera.
        """
        for stem in names.stems(name):
            rows = self._select("id = ?", stem)
            if rows:
                return rows[0]
        number = names.last_number(name)
        if self._camera is None or number is None or names.names_a_sample(name):
            return None
        if self._of_another(name):
            return None
        rows = self._select("camera = ? and seq = ?", self._camera, number)
        return rows[0] if len(rows) == 1 else None

    def missing(self, name: str) -> str:
        """The reason why a name means no sample, and what would help."""
        if names.names_a_sample(name):
            return (
                "no sample of this name: it has the form of a sample's id, and that sample was evicted or "
                "removed, or is another board's"
            )
        if self._camera is None:
            return (
                "no sample of this name: a file is named as the sample's id, as `samples export` wrote it; "
                "--camera NAME matches by a last number that is the sequence number, from 0"
            )
        if not self._select("camera = ?", self._camera):
            return f"no sample of this name, and none of a camera {self._camera!r}: is that its name?"
        if other := self._of_another(name):
            return f"no sample of this name, and its folder is called as another camera, {other!r}"
        if names.made_from_another(name):
            return (
                "no sample of this name: by its end it is of a picture that was mirrored, turned or cut from "
                "another one, whose label it must not be: export without augmentation"
            )
        number = names.last_number(name)
        if number is None:
            return (
                "no sample of this name, and no sequence number at its end (a date or a hash holds none, nor "
                "do MATLAB's Label_1, Label_2, ...)"
            )
        if self._select("camera = ? and seq = ?", self._camera, number):
            return (
                f"no sample of this name, and several of camera {self._camera!r} have the number {number}, "
                "as of several recordings sent as one camera: send each as a camera of its own, or label "
                "what `samples export` writes"
            )
        return (
            f"no sample of this name, and none of camera {self._camera!r} has the number {number}: "
            "`stream` counts from 0, and not every frame is stored"
        )

    def _of_another(self, path: str) -> str:
        """The other camera that a folder of a path is called as; "" for none."""
        return next((part for part in names.folders(path) if part in self._others), "")

    def nearest_labelled(self, target: Target) -> Target | None:
        """The sample itself if it has a label, else its camera's nearest in time with one of that size."""
        if target.label is not None:
            return target
        rows = self._select(
            "label_path is not null and camera = ? and native_width = ? and native_height = ? "
            "order by abs(captured_at - ?), id",
            *(target.camera, *target.native, target.captured_at),
        )
        return rows[0] if rows else None

    def classes_seen(self) -> frozenset[int]:
        """The class ids that occur in stored labels."""
        rows = self._database.query(
            "select distinct value from samples, json_each(samples.classes) where label_path is not null"
        )
        return frozenset(int(row["value"]) for row in rows)

    def _select(self, where: str, *values: object) -> list[Target]:
        rows = self._database.query(f"select {_COLUMNS} from samples where {where} limit 2", list(values))
        return [
            Target(
                sample=row["id"],
                camera=row["camera"],
                captured_at=row["captured_at"],
                image=row["path"],
                stored=(row["width"], row["height"]),
                native=(row["native_width"], row["native_height"]),
                label=row["label_path"],
                source=row["label_source"],
            )
            for row in rows
        ]


def fitted(mask: NDArray[np.uint8], target: Target, file: str) -> NDArray[np.uint8]:
    """The mask at the size of the captured frame; one that was drawn on the stored image is enlarged.

    Raises:
        LabelError: It has neither size.
    """
    size = (mask.shape[1], mask.shape[0])
    if size == target.native:
        return mask
    if size != target.stored:
        remedy = (
            "export a version without Resize" if names.made_by_roboflow(file) else "draw on one of the two"
        )
        raise LabelError(
            f"the label is {size[0]}x{size[1]}, the frame {target.native[0]}x{target.native[1]} and its "
            f"stored image {target.stored[0]}x{target.stored[1]}: {remedy}"
        )
    import cv2

    return np.asarray(cv2.resize(mask, target.native, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
