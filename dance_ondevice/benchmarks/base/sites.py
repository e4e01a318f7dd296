"""Real data sets that the base is evaluated on: training images, evaluation images and matching classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.datasets.camvid import VOID_ID
from dance_ondevice.datasets.idd_lite import IDD_LITE_CLASSES
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.training.batches import TrainingSample

#: The class of IDD-Lite that each class of the base corresponds to.
_IDD_OF_STREET = {
    "sky": "sky",
    "building": "far object",
    "pole": "roadside object",
    "road": "drivable",
    "pavement": "non-drivable",
    "tree": "far object",
    "sign": "roadside object",
    "fence": "roadside object",
    "car": "vehicle",
    "pedestrian": "living thing",
    "bicyclist": "living thing",
}
#: Every this many drives of IDD-Lite are for evaluation; none of their frames is trained on.
_HELD_OUT = 3
_MEASURED = 100
#: (height, width) of the images.
_CAMVID_SIZE, _IDD_SIZE = (360, 480), (227, 320)


class SiteError(ValueError):
    """Error: a folder does not hold the expected data set."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One site.

    Attributes:
        name: Name of the data set.
        classes: Class names in the order of their ids.
        data: Description of the images for training and for evaluation.
        teach: Images that training labels are drawn from.
        measure: Split -> images for evaluation.
        size: (height, width) of the stored images.
        scale: Factor by which images are resized for the network.
        mapping: Class of the base -> class of this data set.
    """

    name: str
    classes: tuple[str, ...]
    data: str
    teach: Sequence[TrainingSample]
    measure: Mapping[str, Sequence[TrainingSample]]
    size: tuple[int, int]
    scale: float
    mapping: Mapping[str, str]


def camvid_place(root: Path) -> Place:
    """CamVid at half size: trained on its training split, evaluated on val (by day) and test (dusk).

    Raises:
        SiteError: The folder does not hold CamVid.
    """

    def listed(split: str) -> list[TrainingSample]:
        return _pairs(root / split, root / f"{split}annot", scale=0.5, void=(VOID_ID,))

    teach, val, test = listed("train"), listed("val"), listed("test")
    return Place(
        name="camvid",
        classes=STREET_CLASSES,
        data=f"labels from {len(teach)} images of train, measured on val ({len(val)}) and test ({len(test)})",
        teach=teach,
        measure={"val": val, "test": test},
        size=_CAMVID_SIZE,
        scale=0.5,
        mapping={name: name for name in STREET_CLASSES},
    )


def idd_place(root: Path) -> Place:
    """IDD-Lite at three quarters: one frame of every third drive for evaluation, the others for training.

    Raises:
        SiteError: The folder does not hold IDD-Lite.
    """
    samples = _pairs(root / "train", root / "trainannot", scale=0.75)
    drives: dict[str, list[TrainingSample]] = {}
    for sample in samples:
        drives.setdefault(sample.image.stem.split("_")[0], []).append(sample)
    middle = [frames[len(frames) // 2] for _, frames in sorted(drives.items())]
    held_out = middle[::_HELD_OUT][:_MEASURED]
    teach = [frame for number, frame in enumerate(middle) if number % _HELD_OUT]
    return Place(
        name="idd-lite",
        classes=IDD_LITE_CLASSES,
        data=f"labels from {len(teach)} drives, measured on {len(held_out)} others, one frame of each",
        teach=teach,
        measure={"other drives": held_out},
        size=_IDD_SIZE,
        scale=0.75,
        mapping=_IDD_OF_STREET,
    )


def _pairs(images: Path, labels: Path, *, scale: float, void: tuple[int, ...] = ()) -> list[TrainingSample]:
    found = [
        TrainingSample(image, labels / f"{image.stem}.png", scale=scale, void=void)
        for image in sorted(images.glob("*.jpg"))
    ]
    if not found or not all(sample.label.is_file() for sample in found):
        raise SiteError(f"{images} holds no JPEG images, or {labels} not a PNG label for each")
    return found
