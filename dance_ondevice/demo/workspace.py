"""Where a demonstration keeps its daemon's state, so that it can be looked at afterwards."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Everything that a demonstration writes there, and what of it is still of use when it has ended.
_PARTS = frozenset({"base", "pretraining", "fresh", "demo.toml", "state"})
_KEPT = frozenset({"base", "demo.toml", "state"})
#: Says that a folder is a demonstration's, which the names of its parts alone would not.
_MARK = ".demonstration"


@dataclass(frozen=True)
class Workspace:
    """The folder of one demonstration."""

    root: Path

    @property
    def base(self) -> Path:
        """The first model."""
        return self.root / "base"

    @property
    def config(self) -> Path:
        """The daemon's configuration."""
        return self.root / "demo.toml"

    @property
    def state(self) -> Path:
        """The daemon's state folder."""
        return self.root / "state"


def last(out: Path) -> Workspace | None:
    """The workspace of the last demonstration that reported to ``out``, or None."""
    found = Workspace((out / "demo").resolve())
    return found if found.config.is_file() and found.state.is_dir() else None


@contextlib.contextmanager
def replaced(out: Path) -> Iterator[Workspace]:
    """Yield the workspace in ``out``, empty; where the demonstration does not end well, the one before stays.

    Raises:
        FileExistsError: There is such a folder, and it contains what no demonstration wrote.
    """
    root = (out / "demo").resolve()
    found = {p.name for p in root.iterdir()} if root.is_dir() else set()
    foreign = sorted(found - _PARTS - {_MARK} if _MARK in found else found)
    if foreign:
        raise FileExistsError(
            f"{root} contains {foreign[0]}, which no demonstration wrote: give another folder with --out"
        )
    before = root.with_name(f".{root.name}-before")
    if before.is_dir():  # the one that was to replace it was killed
        _put_back(before, root)
    if root.is_dir():
        root.rename(before)
    root.mkdir(parents=True)
    (root / _MARK).touch()
    try:
        yield Workspace(root)
    except BaseException:
        _put_back(before, root)
        raise
    shutil.rmtree(before, ignore_errors=True)
    _tidy(root)


@contextlib.contextmanager
def apart() -> Iterator[Workspace]:
    """Yield a new workspace that no later demonstration replaces."""
    root = Path(tempfile.mkdtemp(prefix="dance-demo-"))
    yield Workspace(root)
    _tidy(root)


def _put_back(before: Path, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    if before.is_dir():
        before.rename(root)


def _tidy(root: Path) -> None:
    for name in _PARTS - _KEPT:
        shutil.rmtree(root / name, ignore_errors=True)
