"""Tables of colours and names that tools write beside their masks."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.label_formats.regions import FormatError

__all__ = ["BACKGROUND", "TABLES", "Colour", "ColourTable", "is_table", "parse_colour", "read_table"]

Colour = tuple[int, int, int]

#: Names of such files, in small letters: of CVAT and Pascal VOC, of CamVid, of CamVid as Kaggle has it, of
#: LabelMe's and ISAT's conversions to Pascal VOC, of Roboflow, of V7 Darwin, and of Supervisely's machine
#: masks.
TABLES = (
    "labelmap.txt", "label_colors.txt", "label_colours.txt", "class_dict.csv", "class_names.txt",
    "classification.txt", "_classes.csv", "class_mapping.csv", "obj_class_to_machine_color.json",
)  # fmt: skip
#: Names of tools for pixels without a drawing.
BACKGROUND = frozenset(
    {
        "background",
        "_background_",
        "__background__",
        "unlabeled",
        "unlabelled",
        "void",
        "ignore",
        "ignored",
        "__ignore__",
    }
)

_COLOUR = re.compile(r"\s*(\d{1,3})\s*[,; ]\s*(\d{1,3})\s*[,; ]\s*(\d{1,3})\s*")
_HEX = re.compile(r"\s*#([0-9a-fA-F]{6})\s*")
_CAMVID = re.compile(r"\s*(?:(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})(?=\s))?\s*(\S.*?)\s*")


@dataclass(frozen=True)
class ColourTable:
    """Names in the order of their ids, each with its colour (R, G, B) where the file says one.

    Attributes:
        name: Name of the file.
        rows: Name and colour of each line.
        numbered: Whether the file itself gives the ids.
    """

    name: str
    rows: tuple[tuple[str, Colour | None], ...]
    numbered: bool = False

    @property
    def by_colour(self) -> Mapping[Colour, str]:
        """Return the name of each colour."""
        return {colour: name for name, colour in self.rows if colour is not None}

    @property
    def begins_with_zero(self) -> bool:
        """Return whether every id is the number of its line: given, or as the first one is a background."""
        return self.numbered or (bool(self.rows) and self.rows[0][0].casefold() in BACKGROUND)


def is_table(name: str, read: Callable[[], bytes]) -> bool:
    """Return whether a file is such a table, by its name, and by its headings where the name says little."""
    kind = name.lower()
    if kind == "class_mapping.csv":
        return read().removeprefix(b"\xef\xbb\xbf").startswith(b"class_name,class_color")
    return kind in TABLES


def read_table(name: str, data: bytes) -> ColourTable:
    """Read a table from a file with one of the names in ``TABLES``.

    Raises:
        FormatError: The file is no such table, or gives one colour to two names.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{name} is no text in UTF-8: {error}") from error
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        if name.lower().endswith(".csv") and lines and ";" in lines[0] and "," not in lines[0]:
            lines = _with_commas(lines)
        return _table(name, lines)
    except csv.Error as error:
        raise FormatError(f"{name} is no table of names: {error}") from error


def _table(name: str, lines: Sequence[str]) -> ColourTable:
    kind = name.lower()
    if kind == "_classes.csv":
        return ColourTable(name, tuple((each, None) for each in _roboflow(name, lines)), numbered=True)
    if kind == "class_mapping.csv" and (ids := _darwin_ids(lines)):
        return ColourTable(name, tuple((each, None) for each in _by_id(name, ids)), numbered=True)
    if kind == "obj_class_to_machine_color.json":
        ids = _supervisely_ids(name, "".join(lines))
        return ColourTable(name, tuple((each, None) for each in _by_id(name, ids)), numbered=True)
    parse = {
        "labelmap.txt": _voc, "class_dict.csv": _kaggle, "class_names.txt": _labelme,
        "classification.txt": _labelme, "class_mapping.csv": _darwin,
    }.get(kind, _camvid)  # fmt: skip
    rows = [row for row in map(parse, lines) if row is not None]
    if not rows:
        raise FormatError(f"{name} names no class")
    colours = [colour for _, colour in rows if colour is not None]
    twice = sorted({colour for colour in colours if colours.count(colour) > 1})
    if twice:
        named = ", ".join(name for name, colour in rows if colour == twice[0])
        raise FormatError(f"{name} gives one colour, {twice[0]}, to {named}: give each name its own colour")
    return ColourTable(name, tuple(rows))


def _with_commas(lines: Sequence[str]) -> list[str]:
    """Return a table with commas for one with semicolons, as spreadsheets save it in many countries."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(csv.reader(lines, delimiter=";"))
    return out.getvalue().splitlines()


def parse_colour(text: str) -> Colour | None:
    """Parse a colour written as ``128,64,128`` or ``#804080``; None for any other text."""
    if found := _HEX.fullmatch(text):
        number = int(found[1], 16)
        return (number >> 16, number >> 8 & 255, number & 255)
    if found := _COLOUR.fullmatch(text):
        colour = (int(found[1]), int(found[2]), int(found[3]))
        return colour if max(colour) <= 255 else None
    return None


def _voc(line: str) -> tuple[str, Colour | None] | None:
    """Parse a line ``name:r,g,b:parts:actions``, with ``#`` before a comment."""
    if line.lstrip().startswith("#"):
        return None
    name, _, rest = line.partition(":")
    return name.strip(), parse_colour(rest.partition(":")[0])


def _camvid(line: str) -> tuple[str, Colour | None] | None:
    """Parse a line ``r g b name``; datumaro leaves out numbers that it does not know."""
    found = _CAMVID.fullmatch(line)
    if found is None or line.lstrip().startswith("#"):
        return None
    return found[4], None if found[1] is None else parse_colour(",".join(found.group(1, 2, 3)))


def _kaggle(line: str) -> tuple[str, Colour | None] | None:
    """Parse a line ``name,r,g,b`` below a line of headings; a name with a comma, or any, may be in quotes."""
    name, *rest = next(csv.reader([line], skipinitialspace=True))
    colour = parse_colour(",".join(rest[:3]))
    return None if colour is None else (name.strip(), colour)


def _labelme(line: str) -> tuple[str, Colour | None]:
    """Parse a line ``name``."""
    return line.strip(), None


def _roboflow(file: str, lines: Sequence[str]) -> list[str]:
    """Parse lines ``id, name`` below a line of headings, and return the names in the order of their ids."""
    names: dict[int, str] = {}
    for line in lines:
        number, _, name = line.partition(",")
        if name.lstrip().startswith('"'):
            name = ",".join(next(csv.reader([name.lstrip()])))
        if number.strip().isascii() and number.strip().isdigit() and name.strip():
            names.setdefault(int(number), name.strip())
    return _by_id(file, names)


def _darwin(line: str) -> tuple[str, Colour | None] | None:
    """Parse a line ``name,r g b`` below a line of headings."""
    row = next(csv.reader([line]))
    colour = parse_colour(row[1]) if len(row) > 1 else None
    return None if colour is None else (row[0].strip(), colour)


def _darwin_ids(lines: Sequence[str]) -> dict[int, str]:
    """Parse lines ``name,id`` below a line of headings; without any where the file gives colours.

    A grey that Darwin's exporter gives to several classes has all their names, joined by "or".
    """
    rows = [row for row in csv.reader(lines) if len(row) > 1 and re.fullmatch(r"\s*[0-9]{1,3}\s*", row[1])]
    listed = [int(number) for _, number, *_ in rows]
    written: dict[int, list[str]] = {}
    for name, number in zip((row[0].strip() for row in rows), _darwin_greys(listed), strict=True):
        written.setdefault(number, []).append(name)
    return {number: " or ".join(names) for number, names in written.items()}


def _darwin_greys(listed: Sequence[int]) -> Sequence[int]:
    """Return the greys that pixels of each class have where the mapping lists these.

    darwin-py spreads ids over 0 to 255 and puts the greys in the ids' place one by one, in one array: a grey
    that is the id of a later class is replaced once more (findings/darwin-grey-masks-merge-classes.sh).
    """
    last = len(listed) - 1
    if last < 1 or list(listed) != [number * 255 // last for number in range(last + 1)]:
        return listed
    found = list(range(last + 1))
    for number, grey in enumerate(listed):
        found = [grey if value == number else value for value in found]
    return found


def _supervisely_ids(file: str, text: str) -> dict[int, str]:
    """Parse ``{"name": [id, id, id], ...}``, where 0 is the background."""
    try:
        found = decode(text, dict[str, tuple[int, int, int]])
    except DocumentError as error:
        raise FormatError(f"{file} cannot be read: {error}") from error
    return {0: "background", **{grey: name for name, (grey, _, _) in found.items() if grey >= 0}}


def _by_id(file: str, names: Mapping[int, str]) -> list[str]:
    if not names or max(names) > 255:
        raise FormatError(f"{file} does not say which class each id from 0 to 255 is")
    return [names.get(number, f"id {number}") for number in range(max(names) + 1)]
