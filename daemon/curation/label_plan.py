"""The plan of an import of labels, file by file, and the storage of its labels until they are written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from dance_ondevice.daemon.curation.targets import Target

__all__ = ["Action", "Plan", "Planned", "Slice", "Spool"]

Action = Literal["new", "replaces", "unchanged", "passed over", "refused"]
#: Position of a label's PNG in a spool: offset and length.
Slice = tuple[int, int]

_SPOOLED_BYTES = 64 << 20


class Spool:
    """Encoded labels that wait to be written: in memory, beyond 64 MiB in a file."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES)  # noqa: SIM115 - closed by __exit__
        self._end = 0

    def __enter__(self) -> Spool:
        """The spool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete the content."""
        self._file.close()

    def add(self, data: bytes) -> Slice:
        """Store bytes; returns their position."""
        self._file.seek(self._end)
        self._file.write(data)
        start, self._end = self._end, self._end + len(data)
        return start, len(data)

    def get(self, where: Slice) -> bytes:
        """The bytes at a position."""
        self._file.seek(where[0])
        return self._file.read(where[1])


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The plan for one file, or for one image of an export.

    Attributes:
        file: Name of the mask, or of the image.
        action: ``new`` and ``replaces`` are written, the others are not; ``unchanged`` is what an import
            stored before.
        sample: Id of the sample that the label belongs to, if it is known.
        before: Source of the label that it replaces.
        why: The reason where nothing is written.
        labelled: Share of the pixels that get a class.
        classes: Shares of the pixels by class name.
        target: The sample.
        png: Position of the label in the spool.
        ids: Whether its ids were used unchanged.
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
    """The plan of a whole import.

    Attributes:
        labels: The plans of the labels, in the order of the files.
        notes: Further notes for the user.
        hint: A class map for ids that are not classes; None where all are.
        stop: Why nothing may be written; None if it may.
    """

    labels: tuple[Planned, ...]
    notes: tuple[str, ...]
    hint: str | None
    stop: str | None
