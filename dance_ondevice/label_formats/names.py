"""Matching of file names in labelling tools' exports with samples.

A name is tried unchanged first. Then known additions of tools are removed: the prefix of an upload, at the
very beginning, and the suffix of a data set's layout, at the very end.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = [
    "base_name",
    "folders",
    "last_number",
    "looks_like_image",
    "made_by_roboflow",
    "made_from_another",
    "names_a_sample",
    "picture_name",
    "stems",
    "without_upload",
]

_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
#: Prefix that Label Studio's upload adds to a file's name, and its converter to one that it downloads; or a
#: whole UUID, as other tools put it there.
_UPLOAD = re.compile(r"[0-9a-f]{8}(?:(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:-|_)|-|__)(?=.)")
#: Suffixes of Cityscapes' layout, of labels in the store, and of masks of Segments.ai and SuperAnnotate.
_LAYOUT = re.compile(
    r"(?:_leftImg8bit|(?:_gt(?:Fine|Coarse)?)?_(?:labelIds|labelTrainIds|trainIds|color)|\.label"
    r"|_label_[\w.-]+_semantic(?:_colored)?|___(?:fuse|save)"
    r"|[_-](?:(?:seg|color|colour|class|label|semantic)_?)?masks?"
    r"|[_-](?:seg|segmentation|semantic|semseg|labels?|lbl|gt|groundtruth|annot|annotations?|train_id|L))\Z",
    re.IGNORECASE,
)
#: Roboflow's addition to the name of each image of a version: the old ending, perhaps twice, and a key.
_ROBOFLOW = re.compile(r"(?:_(?:jpe?g|png|webp|bmp|tiff?))+\.rf\.[0-9A-Za-z]+\Z", re.IGNORECASE)
#: What browsers and desktops add to the name of a second copy.
_COPY = re.compile(r"(?: ?\(\d{1,3}\)| (?:- )?copy(?: \d{1,3})?)\Z", re.IGNORECASE)
#: The end of a sample's id: microseconds since 1970, from 2001 on, and the sequence number.
_SAMPLE = re.compile(r".-\d{15,17}-\d+\Z", re.DOTALL)
_LAST_NUMBER = re.compile(r"(\d{1,18})\D*\Z")
#: Ends of names whose last digits count nothing: a date with its time of day, and a hash, which has letters
#: among its digits.
_NO_NUMBER = re.compile(
    r"(?:(?:19|20)\d\d[-_.:]?(?:0\d|1[0-2])[-_.:]?[0-3]\d[-_T .:]?[0-2]\d[-_.:h]?[0-5]\d"
    r"(?:[-_.:m]?[0-5]\d(?:[.,]\d{1,9})?)?Z?"
    r"|(?<![0-9a-z])(?=[0-9a-f]{8,}\Z)[a-f]*\d+[a-f][0-9a-f]*)\Z",
    re.IGNORECASE,
)
#: Ends of names of pictures that were made from another one: mirrored, turned or cut, with or without a short
#: number or two. A longer one is a frame's, of a recording that is called so; a crop also grows in fields.
_MADE = re.compile(
    r"[_.\- ](?:aug(?:mented|mentation)?|[hv]?[_-]?flip(?:ped)?(?:[_-]?(?:lr|ud|[xyhv]))?|mirror(?:ed)?"
    r"|rot(?:90|180|270)|rotated?|cropped)(?:[_.\- ]?\d{1,3}(?:[_.\- ]\d{1,3})?)?\Z|[_.\- ]crop\Z",
    re.IGNORECASE,
)
#: What MATLAB calls masks, in the order of its own list, from 1.
_MATLAB = re.compile(r"Label_\d+\Z")


def base_name(path: str) -> str:
    """Return the last part of a path with slashes or backslashes, or of an address, without its query."""
    if "://" in path:
        path = unquote(path.partition("?")[0])
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def folders(path: str) -> list[str]:
    """Return the names of the folders in a path with slashes or backslashes."""
    return path.replace("\\", "/").split("/")[:-1]


def looks_like_image(name: str) -> bool:
    """Return whether a name ends like an image's."""
    return name.lower().endswith(_IMAGES)


def stems(name: str) -> tuple[str, ...]:
    """Return the possible sample names of a file's name in the order of trials: unchanged first."""
    stem = _without_ending(base_name(name))
    return tuple(dict.fromkeys([*_variants(stem), *_variants(_COPY.sub("", stem))]))


def made_by_roboflow(name: str) -> bool:
    """Return whether Roboflow wrote an image of this name; of augmented images there are several."""
    return _ROBOFLOW.search(_LAYOUT.sub("", _without_ending(base_name(name)))) is not None


def picture_name(name: str) -> str:
    """Return the name that a mask and its picture have in common, without endings and a layout's suffix."""
    return _LAYOUT.sub("", _without_ending(_without_ending(base_name(name))))


def names_a_sample(name: str) -> bool:
    """Return whether a file's name has the form of a sample's id, whether or not there is such a sample."""
    return any(_SAMPLE.search(stem) for stem in stems(name))


def without_upload(name: str) -> str:
    """Return the name without the prefix of an upload."""
    found = _UPLOAD.match(name)
    return name[found.end() :] if found else name


def last_number(name: str) -> int | None:
    """Return the last number in a name without ending and layout suffix: a frame's sequence number.

    None where it belongs to a date with a time, to a hash, to a picture that was made from another one, or to
    MATLAB's list of masks.
    """
    stem = _bare(name)
    found = _LAST_NUMBER.search(stem)
    if found is None or any(other.search(stem) for other in (_NO_NUMBER, _MADE, _MATLAB)):
        return None
    return int(found[1])


def made_from_another(name: str) -> bool:
    """Return whether a name says that its picture was made from another one: mirrored, turned or cut."""
    return _MADE.search(_bare(name)) is not None


def _bare(name: str) -> str:
    return _ROBOFLOW.sub("", _LAYOUT.sub("", _without_ending(base_name(name))))


def _without_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if stem and f"{dot}{ending}".lower() in _IMAGES else name


def _variants(stem: str) -> list[str]:
    bare = _LAYOUT.sub("", stem)
    found = [stem, _without_ending(stem), bare, _without_ending(bare), _ROBOFLOW.sub("", bare)]
    return [*found, *map(without_upload, found)]
