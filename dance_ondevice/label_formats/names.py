"""The one rule by which a file's name, as a labelling tool gives it back, names a sample.

A name counts as it is first. Only then is taken away what a tool is known to have put around it: the prefix
of an upload, at the very beginning; the suffix of a data set's layout, at the very end.
"""

from __future__ import annotations

import re

__all__ = ["base_name", "last_number", "looks_like_image", "stems", "without_upload"]

_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
#: What Label Studio's upload puts before a file's name, and its converter before one that it downloads.
_UPLOAD = re.compile(r"[0-9a-f]{8}(?:-|__)(?=.)")
#: What Cityscapes' layout, and a label in the store, put behind it.
_LAYOUT = re.compile(r"(?:_leftImg8bit|(?:_gt(?:Fine|Coarse))?_(?:labelIds|labelTrainIds|color)|\.label)\Z")
_LAST_NUMBER = re.compile(r"(\d{1,18})\D*\Z")


def base_name(path: str) -> str:
    """The last part of a path, whichever way its slashes lean."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def looks_like_image(name: str) -> bool:
    """Whether a name ends like an image's."""
    return name.lower().endswith(_IMAGES)


def stems(name: str) -> tuple[str, ...]:
    """What a file's name may mean, in the order in which it is tried: the name first, then less and less."""
    stem = _without_ending(base_name(name))
    bare = _LAYOUT.sub("", stem)
    found = [stem, _without_ending(stem), bare, _without_ending(bare)]
    return tuple(dict.fromkeys([*found, *map(without_upload, found)]))


def without_upload(name: str) -> str:
    """The name without the prefix that Label Studio's upload or converter puts at its beginning."""
    found = _UPLOAD.match(name)
    return name[found.end() :] if found else name


def last_number(name: str) -> int | None:
    """The last number in a name, ending and a layout's suffix aside: a frame's sequence number."""
    found = _LAST_NUMBER.search(_LAYOUT.sub("", _without_ending(base_name(name))))
    return None if found is None else int(found[1])


def _without_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if stem and f"{dot}{ending}".lower() in _IMAGES else name
