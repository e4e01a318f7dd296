"""The scenes of a fleet's boards: which images each learns from, judges by and is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from dance_ondevice.datasets.idd_lite import IDD_LITE_CLASSES
from dance_ondevice.datasets.listing import Dataset, DatasetError, LabelledImage, of_sequences
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.images.codec import encode_label
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.training.batches import TrainingSample, read_label

__all__ = ["Fleet", "Scene", "camvid_fleet", "idd_fleet", "mislabelled", "resized"]

#: Shares of a scene, in the order of time: learnt from, judged by; the rest is measured on.
_LEARNT, _JUDGED = 0.6, 0.15
#: Of IDD-Lite's drives the first so many are what the root learns from.
_ROOT_DRIVES = 60
#: MACs that the boards' models have left; a board more takes the first again.
_MACS = (0.6, 0.4, 0.48)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One board.

    Attributes:
        name: Of the board.
        macs_fraction: Share of the root's MACs that its model has left.
        teach: Labelled images that it learns from.
        gate: Later ones, that decide whether it takes a fleet version.
        measure: Later ones still, that nothing is decided by.
    """

    name: str
    macs_fraction: float
    teach: tuple[TrainingSample, ...]
    gate: tuple[TrainingSample, ...]
    measure: tuple[TrainingSample, ...]


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A root and its boards.

    Attributes:
        data: What the scenes are, for the report.
        classes: Class names.
        size: (height, width) of the images.
        scale: That the models see them at.
        root: Labelled images that the root learns from before the boards part.
        scenes: The boards.
    """

    name: str
    data: str
    classes: tuple[str, ...]
    size: tuple[int, int]
    root: tuple[TrainingSample, ...]
    scenes: tuple[Scene, ...]
    scale: float = 1.0

    @property
    def seen(self) -> tuple[int, int]:
        """The size (height, width) that the models see."""
        return round(self.scale * self.size[0]), round(self.scale * self.size[1])


def camvid_fleet(folder: Path) -> Fleet:
    """Three boards on CamVid's train split: dusk, another street by day, and the root's own street later on.

    Raises:
        DatasetError: The folder is not CamVid's.
    """
    dataset = open_dataset("camvid", folder)
    items = dataset.images(["train"])
    drives = {
        name: _samples(dataset, of_sequences(items, [name], "train"))
        for name in ("0001TP", "0006R0", "0016E5")
    }
    half = len(drives["0016E5"]) // 2
    parts = {
        "dusk": drives["0001TP"],
        "other street": drives["0006R0"],
        "same street": drives["0016E5"][half:],
    }
    return Fleet(
        name="camvid",
        data="train: the root on the first half of 0016E5; boards on 0001TP, 0006R0, the rest of 0016E5",
        classes=STREET_CLASSES,
        size=(360, 480),
        root=tuple(drives["0016E5"][:half]),
        scenes=_scenes(parts),
    )


def idd_fleet(folder: Path, boards: int = 8) -> Fleet:
    """Boards on runs of IDD-Lite's drives, which another run of drives has taught the root.

    Raises:
        DatasetError: The folder is not IDD-Lite's.
    """
    dataset = open_dataset("idd_lite", folder)
    items = dataset.images(["train"])
    drives = list(dict.fromkeys(item.sequence for item in items))
    if len(drives) < _ROOT_DRIVES + boards:
        raise DatasetError(f"{folder}: {len(drives)} drives are too few for a root and {boards} boards")
    rest = drives[_ROOT_DRIVES:]
    ends = [number * len(rest) // boards for number in range(boards + 1)]
    parts = {
        f"drives {start + 1} to {end}": _samples(dataset, of_sequences(items, rest[start:end], "train"))
        for start, end in pairwise(ends)
    }
    return Fleet(
        name="idd_lite",
        data=f"train: the root on {_ROOT_DRIVES} drives, {boards} boards on {len(rest)} others in runs",
        classes=IDD_LITE_CLASSES,
        size=(227, 320),
        root=tuple(_samples(dataset, of_sequences(items, drives[:_ROOT_DRIVES], "train"))),
        scenes=_scenes(parts),
    )


def _scenes(parts: dict[str, list[TrainingSample]]) -> tuple[Scene, ...]:
    found = []
    for number, (name, samples) in enumerate(parts.items()):
        learnt = round(_LEARNT * len(samples))
        judged = learnt + round(_JUDGED * len(samples))
        found.append(
            Scene(
                name=name,
                macs_fraction=_MACS[number % len(_MACS)],
                teach=tuple(samples[:learnt]),
                gate=tuple(samples[learnt:judged]),
                measure=tuple(samples[judged:]),
            )
        )
    return tuple(found)


def _samples(dataset: Dataset, items: Sequence[LabelledImage]) -> list[TrainingSample]:
    return [TrainingSample(item.image, item.label, void=dataset.void or ()) for item in items]


def resized(fleet: Fleet, scale: float) -> Fleet:
    """Return a fleet whose models see its images at a scale in (0, 1]; labels keep their size."""

    def each(samples: Sequence[TrainingSample]) -> tuple[TrainingSample, ...]:
        return tuple(replace(sample, scale=scale) for sample in samples)

    scenes = tuple(
        replace(scene, teach=each(scene.teach), gate=each(scene.gate), measure=each(scene.measure))
        for scene in fleet.scenes
    )
    return replace(fleet, scale=scale, root=each(fleet.root), scenes=scenes)


def mislabelled(scene: Scene, classes: int, folder: Path) -> Scene:
    """Return a scene whose labels, of what is learnt from and judged by, call each class by the next's name.

    Args:
        scene: The scene.
        classes: Number of classes; the last one becomes the first.
        folder: Where the labels are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = np.arange(256)
    table = np.where(known < classes, (known + 1) % classes, known).astype(np.uint8)

    def each(samples: Sequence[TrainingSample]) -> tuple[TrainingSample, ...]:
        found = []
        for sample in samples:
            path = folder / f"{len(list(folder.iterdir())):05}.png"
            path.write_bytes(encode_label(table[read_label(sample, classes)]))
            found.append(replace(sample, label=path, void=()))
        return tuple(found)

    return replace(scene, teach=each(scene.teach), gate=each(scene.gate))
