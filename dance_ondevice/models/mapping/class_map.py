"""Class maps: which classes of a network stand for each class of a site. Nothing here imports torch."""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dance_ondevice.documents import DocumentError, decode

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # only installed where needed


class ClassMapError(ValueError):
    """Error: a class map cannot be read, or does not fit the classes; the message says what to change."""


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """Many-to-one map from the classes of a network to those of a site.

    Attributes:
        base: Classes of the network, in the order of its outputs.
        members: Classes of the network that stand for each class of the site, by its name. Those that stand
            for none are never predicted.
    """

    base: tuple[str, ...]
    members: dict[str, tuple[str, ...]]

    def indices(self, classes: Sequence[str]) -> list[list[int]]:
        """Return the network's outputs that belong to each class of the site.

        Raises:
            ClassMapError: The map does not fit these classes.
        """
        self.check(classes)
        return [[self.base.index(name) for name in self.members[site]] for site in classes]

    def check(self, classes: Sequence[str]) -> None:
        """Check the map against the site's classes.

        Raises:
            ClassMapError: A name is unknown or stands twice, or a class has no members.
        """
        for name in self.members:
            if name not in classes:
                raise ClassMapError(f"{name!r} is none of the site's classes: {', '.join(classes)}")
        for name in classes:
            if not self.members.get(name):
                raise ClassMapError(f"no class of the network stands for {name!r}; name one or more under it")
        named = [name for names in self.members.values() for name in names]
        for name, count in Counter(named).items():
            if name not in self.base:
                raise ClassMapError(f"{name!r} is none of the network's classes: {', '.join(self.base)}")
            if count > 1:
                raise ClassMapError(f"{name!r} stands for more than one class")


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    classes: dict[str, tuple[str, ...]]
    base: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def read_class_map(path: Path, classes: Sequence[str], known: Sequence[str] = ()) -> ClassMap:
    """Read a class map from a TOML or JSON file.

    The file has ``base``, the network's classes in the order of its outputs (it may be left out where the
    model's card has them), ``unused``, those of them that stand for nothing, and the table ``classes``: the
    network's classes for each of the site's.

    Args:
        path: File; TOML unless its name ends in ``.json``.
        classes: Classes of the site.
        known: Classes of the network as its card has them; empty if it has no card.

    Raises:
        ClassMapError: The file cannot be read, a name in it is unknown or missing, or stands twice.
    """
    try:
        data = path.read_bytes().removeprefix(BOM_UTF8)
        found = (
            decode(data, _File)
            if path.suffix == ".json"
            else msgspec.convert(tomllib.loads(data.decode()), _File)
        )
    except OSError as error:
        raise ClassMapError(f"{path}: cannot read the class map: {error.strerror}") from error
    except (DocumentError, ValueError) as error:  # msgspec's, tomllib's and Unicode errors are ValueErrors
        raise ClassMapError(f"{path}: not a class map: {error}") from error
    base = found.base or tuple(known)
    if not base:
        raise ClassMapError(f"{path}: name the network's classes as base, in the order of its outputs")
    if known and base != tuple(known):
        raise ClassMapError(f"{path}: base is {', '.join(base)}, the model's card has {', '.join(known)}")
    if doubled := [name for name, count in Counter(base).items() if count > 1]:
        raise ClassMapError(f"{path}: base has {', '.join(doubled)} twice")
    made = ClassMap(base=base, members=found.classes)
    try:
        made.check(classes)
    except ClassMapError as error:
        raise ClassMapError(f"{path}: {error}") from error
    used = {name for names in found.classes.values() for name in names}
    for name in found.unused:
        if name not in base or name in used:
            what = "stands for a class as well" if name in used else "is none of the network's classes"
            raise ClassMapError(f"{path}: {name!r} is listed as unused, but {what}")
    if missing := [name for name in base if name not in used and name not in found.unused]:
        raise ClassMapError(
            f"{path}: {', '.join(missing)} of the network is not mapped; name it under one of the site's "
            "classes, or list it as unused"
        )
    return made
