"""The streams: frames that a person may label, and others of the same scenes that nothing is learnt from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.datasets.camvid import VOID_ID, camvid
from dance_ondevice.datasets.idd_lite import IDD_LITE_CLASSES
from dance_ondevice.datasets.listing import DatasetError, LabelledImage
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.images.labels import STREET_CLASSES
from dance_ondevice.training.batches import TrainingSample

__all__ = ["STREAMS", "Stream", "open_stream"]

#: Every so many drives of IDD-Lite are measured on.
_MEASURED_DRIVES = 3


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What may be labelled and what is measured on.

    Attributes:
        name: As on the command line.
        about: What the frames are, in words.
        classes: Names in the order of their ids.
        size: (height, width) of the images.
        pool: Frames that may be labelled, in order of time.
        seconds: Seconds from one frame of the pool to the next.
        tests: Frames that are measured on.
    """

    name: str
    about: str
    classes: tuple[str, ...]
    size: tuple[int, int]
    pool: tuple[TrainingSample, ...]
    seconds: float
    tests: tuple[TrainingSample, ...]


def _camvid_dusk(root: Path) -> Stream:
    pool, tests = camvid(root, ("train",), ("0001TP",)), camvid(root, ("test",), ("0001TP",))
    about = f"CamVid at dusk: the first half of 0001TP ({len(pool)} images), measured on the second"
    return _of_camvid("camvid-dusk", f"{about} ({len(tests)})", pool, tests)


def _camvid_day(root: Path) -> Stream:
    drive = camvid(root, ("train",), ("0006R0",))
    half = len(drive) // 2
    about = f"CamVid by day, to choose settings on: the first half of 0006R0 ({half} images)"
    return _of_camvid(
        "camvid-day", f"{about}, measured on the second ({len(drive) - half})", drive[:half], drive[half:]
    )


def _of_camvid(
    name: str, about: str, pool: Sequence[LabelledImage], tests: Sequence[LabelledImage]
) -> Stream:
    return Stream(
        name=name,
        about=about,
        classes=STREET_CLASSES,
        size=(360, 480),
        pool=_samples(pool, 0.5, (VOID_ID,)),
        seconds=1.0,
        tests=_samples(tests, 0.5, (VOID_ID,)),
    )


def _idd_drives(root: Path) -> Stream:
    drives: dict[str, list[LabelledImage]] = {}
    for item in open_dataset("idd_lite", root).images(["train"]):
        drives.setdefault(item.sequence, []).append(item)
    if len(drives) < _MEASURED_DRIVES:
        raise DatasetError(f"{root} holds {len(drives)} drives; at least {_MEASURED_DRIVES} are needed")
    middle = [frames[len(frames) // 2] for _, frames in sorted(drives.items())]
    tests = middle[::_MEASURED_DRIVES]
    pool = [frame for number, frame in enumerate(middle) if number % _MEASURED_DRIVES]
    return Stream(
        name="idd-drives",
        about=f"IDD-Lite: one frame of each of {len(pool)} drives, measured on {len(tests)} other drives",
        classes=IDD_LITE_CLASSES,
        size=(227, 320),
        pool=_samples(pool, 0.75, ()),
        seconds=60.0,
        tests=_samples(tests, 0.75, ()),
    )


def _samples(
    items: Sequence[LabelledImage], scale: float, void: tuple[int, ...]
) -> tuple[TrainingSample, ...]:
    return tuple(TrainingSample(item.image, item.label, scale=scale, void=void) for item in items)


#: Stream -> what opens it in a folder.
STREAMS: Mapping[str, Callable[[Path], Stream]] = {
    "camvid-dusk": _camvid_dusk,
    "camvid-day": _camvid_day,
    "idd-drives": _idd_drives,
}


def open_stream(name: str, root: Path) -> Stream:
    """Open one of :data:`STREAMS`.

    Raises:
        DatasetError: The folder does not hold its data set.
    """
    return STREAMS[name](root)
