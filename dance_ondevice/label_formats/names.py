"""Matching of file names in labelling tools' exports with samples.

A name is tried unchanged first. Then known additions of tools are removed: the prefix of an upload, at the
very beginning, and the suffix of a data set's layout, at the very end.
"""

from __future__ import annotations

import re

__all__ = ["base_name", "last_number", "looks_like_image", "stems", "without_upload"]

_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
#: Prefix that Label Studio's upload adds to a file's name, and its converter to one that it downloads.
_UPLOAD = re.compile(r"[0-9a-f]{8}(?:-|__)(?=.)")
#: Suffixes of Cityscapes' layout, and of labels in the store.
_LAYOUT = re.compile(
    r"(?:_leftImg8bit|(?:_gt(?:Fine|Coarse))?_(?:labelIds|labelTrainIds|color)|\.label"
    r"|_(?:mask|masks|seg|segmentation|label|labels|gt|annotation|train_id|L))\Z"
)
#: Roboflow's addition to the name of each image of a version: the old ending, perhaps twice, and a key.
_ROBOFLOW = re.compile(r"(?:_(?:jpe?g|png|webp|bmp|tiff?))+\.rf\.[0-9A-Za-z]+\Z", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"(\d{1,18})\D*\Z")


def base_name(path: str) -> str:
    """Return the last part of a path with slashes or backslashes."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def looks_like_image(name: str) -> bool:
    """Return whether a name ends like an image's."""
    return name.lower().endswith(_IMAGES)


def stems(name: str) -> tuple[str, ...]:
    """Return the possible sample names of a file's name in the order of trials: unchanged first."""
    stem = _without_ending(base_name(name))
    bare = _LAYOUT.sub("", stem)
    found = [stem, _without_ending(stem), bare, _without_ending(bare), _ROBOFLOW.sub("", bare)]
    return tuple(dict.fromkeys([*found, *map(without_upload, found)]))


def without_upload(name: str) -> str:
    """Return the name without the prefix of Label Studio's upload or converter."""
    found = _UPLOAD.match(name)
    return name[found.end() :] if found else name


def last_number(name: str) -> int | None:
    """Return the last number in a name without ending and layout suffix: a frame's sequence number."""
    found = _LAST_NUMBER.search(_ROBOFLOW.sub("", _LAYOUT.sub("", _without_ending(base_name(name)))))
    return None if found is None else int(found[1])


def _without_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if stem and f"{dot}{ending}".lower() in _IMAGES else name
