"""What each engine takes on this board for one version, kept beside it; reading it needs no torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import write_durably
from dance_ondevice.runtime.engines import ENGINES, EngineName, installed

__all__ = [
    "TABLE_FILE",
    "EngineChoice",
    "EngineRow",
    "EngineTable",
    "board",
    "order",
    "read_table",
    "write_table",
]

TABLE_FILE = "engines.json"
#: What ``inference.engine`` may be.
EngineChoice: TypeAlias = EngineName | Literal["auto"]
#: Least share of pixels that must get the class that torch gives them.
AGREEMENT = 0.995


class EngineRow(msgspec.Struct, frozen=True, kw_only=True):
    """One engine.

    Attributes:
        engine: Its name.
        cpu_ms: Median CPU milliseconds of a mask, decoding left out; None where it does not run.
        agreement: Share of pixels that get the same class as by the model in torch as it was trained.
        note: Why it does not run.
    """

    engine: EngineName
    cpu_ms: float | None = None
    agreement: float | None = None
    note: str = ""

    @property
    def usable(self) -> bool:
        """Whether it runs and agrees."""
        return self.cpu_ms is not None and (self.agreement or 0.0) >= AGREEMENT


class EngineTable(msgspec.Struct, frozen=True, kw_only=True):
    """The engines of a version on this board.

    Attributes:
        model: SHA-256 of the version's tensors.
        board: What the measurement is valid for, see ``board``.
        size: Size (height, width) of the frames that were segmented.
        engines: One row an engine that is installed.
    """

    model: str
    board: str
    size: tuple[int, int]
    engines: tuple[EngineRow, ...]


def board() -> str:
    """The machine and the versions of its engines: whatever changes a measurement."""
    packages = ["torch", *(engine.package for name, engine in ENGINES.items() if installed(name))]
    versions = []
    for package in packages:
        try:
            versions.append(f"{package}-{importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:  # a build of one's own, such as Jetson's
            versions.append(f"{package}-unknown")
    return " ".join([platform.machine(), f"cores-{os.cpu_count()}", *versions])


def order(table: EngineTable | None, engine: EngineChoice) -> list[EngineName]:
    """The engines to try, the first one first; ``torch`` is the last resort, however it measured.

    Torch in the daemon costs memory that is measured in hundreds of megabytes, whatever it saves.

    Args:
        table: What was measured; None if nothing was.
        engine: The configured engine; ``auto`` takes the one that takes the least CPU time.
    """
    graphs = [name for name in ENGINES if installed(name)]
    if table is not None:
        rows = {row.engine: row for row in table.engines if row.usable}
        graphs = sorted((name for name in graphs if name in rows), key=lambda name: rows[name].cpu_ms or 0.0)
    if engine != "auto":
        graphs = [name for name in graphs if name == engine]
    return [*graphs, "torch"]


def read_table(folder: Path, model: str) -> EngineTable | None:
    """Read a version's table; None if there is none, or it is of other tensors or another board."""
    try:
        table = decode((folder / TABLE_FILE).read_bytes(), EngineTable)
    except (OSError, DocumentError):
        return None
    return table if table.model == model and table.board == board() else None


def write_table(folder: Path, table: EngineTable) -> None:
    """Write a version's table.

    Raises:
        OSError: It cannot be written.
    """
    write_durably(folder / TABLE_FILE, msgspec.json.format(msgspec.json.encode(table), indent=1))
