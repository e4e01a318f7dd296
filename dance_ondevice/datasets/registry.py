"""The labelled data sets by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from dance_ondevice.datasets import bdd100k, camvid, cityscapes
from dance_ondevice.datasets.listing import Dataset
from dance_ondevice.datasets.nineteen import NINETEEN_CLASSES
from dance_ondevice.images.labels import STREET_CLASSES

DATASET_NAMES: tuple[str, ...] = ("camvid", "camvid32", "cityscapes", "bdd100k")


def open_dataset(name: str, root: Path) -> Dataset:
    """A data set in a folder of the layout that its module describes.

    Raises:
        ValueError: there is no data set of this name.
        DatasetError: the names of the classes are in the folder and cannot be read.
    """
    if name == "camvid":
        return Dataset(
            name=name,
            classes=STREET_CLASSES,
            images=partial(camvid.camvid, root),
            read_label=camvid.read_label,
        )
    if name == "camvid32":
        colours = camvid.LabelColours.load(root)
        return Dataset(
            name=name,
            classes=colours.classes,
            images=partial(camvid.camvid32, root),
            read_label=colours.read_label,
        )
    if name == "cityscapes":
        return Dataset(
            name=name,
            classes=NINETEEN_CLASSES,
            images=partial(cityscapes.cityscapes, root),
            read_label=cityscapes.read_label,
        )
    if name == "bdd100k":
        return Dataset(
            name=name,
            classes=NINETEEN_CLASSES,
            images=partial(bdd100k.bdd100k, root),
            read_label=bdd100k.read_label,
        )
    raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(DATASET_NAMES)}")
