"""Compares the pictures in an export with the samples that its labels are for.

A label of a mirrored, turned or otherwise altered picture has the size of the sample's, and nothing in it
shows that it lies elsewhere; nor does a number show that it counts another recording. The picture does.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.daemon.curation.targets import Target
from dance_ondevice.files import read_regular
from dance_ondevice.images.codec import decode_grey
from dance_ondevice.images.headers import ImageError, orientation, probe
from dance_ondevice.label_formats.names import base_name, made_by_roboflow, picture_name
from dance_ondevice.label_formats.regions import FormatError
from dance_ondevice.label_formats.tree import Entry

__all__ = ["Pictures"]

#: Folders of pictures; elsewhere an image that is called as a mask may show the mask.
_FOLDERS = frozenset({"images", "jpegimages", "imgsfine", "leftimg8bit", "image_2", "img"})
#: Size (width, height) at which pictures are compared: what they show, and no noise.
_SIZE = (64, 48)
#: Pixels of that size over which light and dark are taken out, so that only what is finer is compared: all
#: frames of a street have the same sky and road.
_SIGMA = 2.0
#: Correlation above which two pictures are one, turned or not, and below which they show different things.
#: One picture has 0.8 and more after compression, blur, noise or another brightness, and 0.44 at the least
#: after its histogram was equalised or a sixth of it was blackened (CamVid, IDD-Lite). Other frames have 0.0
#: to 0.2, but for those of a moment later.
_SAME, _OTHER = 0.4, 0.3
#: By how much a turned picture must be more like the sample than as it is.
_MORE = 0.2
#: Standard deviation in grey levels below which a picture shows too little to be compared.
_FLAT = 1.0


class Pictures:
    """The pictures in an export, found by the names of labels."""

    def __init__(self, entries: Iterable[Entry], root: Path) -> None:
        """Index pictures by name.

        Args:
            entries: Images of an export that are no masks.
            root: The state folder.
        """
        self._root = root
        self._by_name: dict[str, list[Entry]] = {}
        self._of_mask: dict[str, list[Entry]] = {}
        for entry in entries:
            self._by_name.setdefault(entry.name, []).append(entry)
            if _in_folder(entry.path) or made_by_roboflow(entry.name):  # beside the mask, and no drawing
                self._of_mask.setdefault(picture_name(entry.name), []).append(entry)

    def other(self, label: str, target: Target, *, drawn: bool) -> str | None:
        """Return why the picture that a label was made on is not the sample's; None where nothing shows it.

        Args:
            label: Path of the mask, or of the picture as the export names it.
            target: The sample.
            drawn: Whether ``label`` names the picture itself.
        """
        found = self._by_name.get(base_name(label), []) if drawn else None
        found = self._of_mask.get(picture_name(label), []) if found is None else found
        # Of several, those elsewhere are drawings over the picture.
        found = [each for each in found if _in_folder(each.path)] or found
        if len(found) != 1:
            return None
        try:
            return _other(found[0].read(), read_regular(self._root / target.image), str(found[0].path))
        except (OSError, ImageError, FormatError):
            return None  # the label is judged by itself


def _other(picture: bytes, sample: bytes, path: str) -> str | None:
    if (turn := orientation(picture)) > 1:
        seen = _detail(picture, turn)
        known = _detail(sample)
        if min(seen.std(), known.std()) >= _FLAT and _compared(seen, known, path) is None:
            return None  # its sender turned it as well
        return (
            f"its picture, {path}, has the EXIF orientation {turn}, by which tools turn it before anybody "
            "draws, and this service does not: label what `samples export` wrote"
        )
    return None if picture == sample else _compared(_detail(picture), _detail(sample), path)


def _in_folder(path: PurePath) -> bool:
    return any(part.lower() in _FOLDERS for part in path.parts[:-1])


def _detail(data: bytes, turn: int = 1) -> NDArray[np.float32]:
    """Decode an image to ``_SIZE``, turned by EXIF, and leave what is coarser than ``_SIGMA`` out."""
    import cv2

    info = probe(data)
    reduce = max(each for each in (1, 2, 4, 8) if each * 4 * _SIZE[1] <= max(info.height, 4 * _SIZE[1]))
    grey = _turned(decode_grey(data, reduce), turn)
    small = cv2.resize(grey, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(small - cv2.GaussianBlur(small, (0, 0), _SIGMA), np.float32)


def _turned(image: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Turn an image (H, W) as programs do that obey an EXIF orientation."""
    if turn >= 5:
        image = image.T
    down, left = turn in (3, 4, 7, 8), turn in (2, 3, 6, 7)
    return np.ascontiguousarray(image[:: -1 if down else 1, :: -1 if left else 1])


def _compared(picture: NDArray[np.float32], sample: NDArray[np.float32], path: str) -> str | None:
    if min(picture.std(), sample.std()) < _FLAT:
        return None
    plain = _correlation(picture, sample)
    turned = max(
        _correlation(each, sample) for each in (picture[:, ::-1], picture[::-1], picture[::-1, ::-1])
    )
    if turned >= _SAME and turned > plain + _MORE:
        return (
            f"its picture, {path}, is the sample's mirrored or turned, and so is the label: export without "
            "augmentation, and what `samples export` wrote"
        )
    if plain < _OTHER:
        return (
            f"its picture, {path}, shows something else (correlation {plain:.2f}): its name or "
            "number means another one, or it was cut; if it is the sample's all the same, leave pictures out"
        )
    return None


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.mean((one - one.mean()) * (other - other.mean())) / (one.std() * other.std()))
