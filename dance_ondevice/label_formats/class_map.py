"""Class maps: from the names, ids or colours of a labelling tool to the class ids of this model."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.images.labels import IGNORE
from dance_ondevice.label_formats.colours import Colour, parse_colour

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # only installed where needed

__all__ = ["ClassMap", "ClassMapError", "UnknownClasses", "read_class_map", "suggest", "unknown_classes"]

_IGNORED = ("ignore", "void")


class ClassMapError(ValueError):
    """Error: a class map cannot be used; the message lists everything that is wrong with it."""


class UnknownClasses(ClassMapError):  # noqa: N818 - read as a state
    """Error: names are neither classes of the model nor in the map; the message holds a map to complete."""


@dataclass(frozen=True)
class ClassMap:
    """Map of names, ids and colours to class ids.

    Attributes:
        targets: Class id, or 255 to ignore, by name, by id written as text, or by colour written as
            ``128,64,128`` or ``#804080``.
        background: Id of pixels without a drawing.
    """

    targets: Mapping[str, int] = field(default_factory=dict)
    background: int = IGNORE

    @property
    def colours(self) -> dict[Colour, int]:
        """Return the targets whose keys are colours."""
        named = ((parse_colour(name), target) for name, target in self.targets.items())
        return {colour: target for colour, target in named if colour is not None}

    @property
    def names_ids(self) -> bool:
        """Return whether the map has ids of masks as keys."""
        return any(name.isascii() and name.isdigit() for name in self.targets)

    def resolve(self, names: Iterable[str], classes: Sequence[str]) -> dict[str, int]:
        """Return the class id of every name: as mapped, else that of the class of that name (in any case).

        Raises:
            UnknownClasses: Some names have no class; the error lists all of them.
        """
        found = {name: self.lookup(name, classes) for name in names}
        unknown = [name for name, target in found.items() if target is None]
        if unknown:
            raise unknown_classes(unknown, classes)
        return {name: target for name, target in found.items() if target is not None}

    def lookup(self, name: str, classes: Sequence[str]) -> int | None:
        """Return the class id of one name; None if it is neither a class nor in the map.

        The map's own spelling goes before a class's name, that before another spelling of a class, and that
        before another spelling in the map. Another spelling of several with different ids is none of them.
        """
        if name in self.targets:
            return self.targets[name]
        own = _class_of(name, classes)
        if own is not None:
            return own
        return _one_of(name, self.targets.items())

    def apply(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Replace the ids in a mask that the map has as keys."""
        table = np.arange(256, dtype=np.uint8)
        for name, target in self.targets.items():
            if name.isascii() and name.isdigit() and int(name) <= IGNORE:
                table[int(name)] = target
        return table[mask]


def unknown_classes(names: Sequence[str], classes: Sequence[str]) -> UnknownClasses:
    """Make the error for names without a class."""
    return UnknownClasses(
        f"unknown class names: {', '.join(map(repr, names))}; nothing was imported. Say what "
        f"they are in a file and give it with --class-map:\n\n{suggest(names, classes)}"
    )


def read_class_map(text: str, classes: Sequence[str]) -> ClassMap:
    """Read a class map: TOML with a table ``[classes]`` and, if wanted, a key ``background`` before it.

    In the table, keys are names, ids or colours ("128,64,128") of the imported labels; values are names or
    ids of the model's classes, or "ignore".

    Raises:
        ClassMapError: The map cannot be used; the message lists everything that is wrong with it.
    """
    try:
        document = tomllib.loads(text)
    # Beside a syntax error, values nested too deeply and a number of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise ClassMapError(f"the class map is not TOML: {error}") from error
    problems = [f"unknown key {key!r}" for key in sorted(document.keys() - {"classes", "background"})]
    table = document.get("classes", {})
    if not isinstance(table, dict):
        problems.append("[classes] must be a table")
        table = {}
    targets: dict[str, int] = {}
    for name, value in table.items():
        if (target := _target(value, classes)) is None:
            problems.append(f"{name!r} = {_show(value)}")
        else:
            targets[name] = target
    # Without the key: not a class that is called "ignore".
    background = _target(document["background"], classes) if "background" in document else IGNORE
    if background is None:
        problems.append(f"background = {_show(document['background'])}")
    if problems or background is None:
        raise ClassMapError(
            f"the class map has {', '.join(problems)}; allowed are the keys classes and background, and as "
            f'values "ignore", an id from 0 to {len(classes) - 1}, or one of {", ".join(classes)}'
        )
    return ClassMap(targets, background)


def suggest(names: Iterable[str], classes: Sequence[str]) -> str:
    """Suggest a class map for some names: with the most similar class if there is one, else "ignore"."""
    import difflib

    own = {_plain(name): name for name in classes}
    lines = ["[classes]"]
    for name in names:
        close = difflib.get_close_matches(_plain(name), own, n=1, cutoff=0.6)
        lines.append(f"{_quoted(name)} = {_quoted(own[close[0]] if close else 'ignore')}")
    return "\n".join([*lines, f"# the classes are: {', '.join(_quoted(name)[1:-1] for name in classes)}"])


def _quoted(text: str) -> str:
    """Return a text as TOML writes it: as JSON does, but without surrogates, and with DEL escaped."""
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _target(value: object, classes: Sequence[str]) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 0 <= value < len(classes) or value == IGNORE else None
    if isinstance(value, str):
        own = _class_of(value, classes)
        return IGNORE if own is None and value.lower() in _IGNORED else own
    return None


def _class_of(name: str, classes: Sequence[str]) -> int | None:
    """Return the id of the class of a name, or of the only one that it is another spelling of."""
    if name in classes:
        return classes.index(name)
    return _one_of(name, ((each, index) for index, each in enumerate(classes)))


def _one_of(name: str, named: Iterable[tuple[str, int]]) -> int | None:
    """Return the id that all other spellings of a name have; None where there is none, or more than one."""
    found = {target for each, target in named if _plain(each) == _plain(name)}
    return found.pop() if len(found) == 1 else None


def _show(value: object) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # thousands of digits, hundreds of levels
        return "a value too long to be shown"


def _plain(name: str) -> str:
    # Composed: macOS and some tools write an accent as a sign of its own.
    return unicodedata.normalize("NFC", name).strip().casefold().replace("_", " ").replace("-", " ")
