"""What an import of labels would do, file by file, and where the labels lie until they are written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from dance_ondevice.daemon.curation.targets import Target

__all__ = ["Action", "Plan", "Planned", "Slice", "Spool"]

Action = Literal["new", "replaces", "passed over", "refused"]
#: Where in a spool the PNG of a label lies: offset and length.
Slice = tuple[int, int]

_SPOOLED_BYTES = 64 << 20


class Spool:
    """Encoded labels until all are looked at and they are written: in memory, beyond 64 MiB in a file."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES)  # noqa: SIM115 - closed by __exit__
        self._end = 0

    def __enter__(self) -> Spool:
        """The spool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget what is in it."""
        self._file.close()

    def add(self, data: bytes) -> Slice:
        """Keep bytes; returns where."""
        self._file.seek(self._end)
        self._file.write(data)
        start, self._end = self._end, self._end + len(data)
        return start, len(data)

    def get(self, where: Slice) -> bytes:
        """The bytes that were kept there."""
        self._file.seek(where[0])
        return self._file.read(where[1])


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What an import would do with one file, or with one image of an export.

    Attributes:
        file: the mask's name, or the image's.
        action: ``new`` and ``replaces`` are written, ``passed over`` and ``refused`` are not.
        sample: whose label it is, as far as that is known.
        before: who made the label that it replaces.
        why: the reason where nothing is written.
        labelled: share of the pixels that get a class.
        classes: shares of the pixels by class name.
        target: the sample.
        png: where the label lies in the spool.
        ids: whether its ids were taken as they are written.
    """

    file: str
    action: Action
    sample: str | None = None
    before: str | None = None
    why: str | None = None
    labelled: float = 0.0
    classes: Mapping[str, float] = field(default_factory=dict)
    target: Target | None = None
    png: Slice | None = None
    ids: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that an import would do.

    Attributes:
        labels: in the order of the files.
        notes: what else is worth knowing.
        hint: a class map that would help with ids that are no class; None where none is.
        stop: why nothing may be written; None where nothing speaks against it.
    """

    labels: tuple[Planned, ...]
    notes: tuple[str, ...]
    hint: str | None
    stop: str | None
