"""The builds that are compared: this one, and a revision of the same repository in a checkout of its own."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

log = logging.getLogger(__name__)

#: Root of the package that runs.
HERE = Path(__file__).resolve().parents[3]
_MINUTE = 60.0


class BuildFailed(RuntimeError):  # noqa: N818 - the name says what happened
    """The other build cannot be made or run; the message says why."""


@dataclass(frozen=True)
class Build:
    """One build, which can be run.

    Attributes:
        name: Its revision.
        root: Its checkout.
        python: An interpreter with the packages that it needs.
    """

    name: str
    root: Path
    python: Path

    @property
    def environ(self) -> Mapping[str, str]:
        """Variables by which that interpreter takes this checkout, whatever is installed."""
        return {"PYTHONPATH": str(self.root)}

    @cached_property
    def _keys(self) -> frozenset[str]:
        # Packages of the folder that it starts in come before all others.
        where = [str(self.python), "-c", "import dance_ondevice; print(dance_ondevice.__file__)"]
        found = Path(_run(where, cwd=self.root, environ=self.environ).strip())
        if self.root.resolve() not in found.resolve().parents:
            raise BuildFailed(f"{self.python} takes dance_ondevice from {found}, not from {self.root}")
        command = [str(self.python), "-m", "dance_ondevice", "config", "show", "--json"]
        shown = json.loads(_run(command, cwd=self.root, environ=self.environ))
        return frozenset(f"{section}.{key}" for section, keys in shown["values"].items() for key in keys)

    def knows(self, key: str) -> bool:
        """Return whether its configuration has a key, such as "inference.reuse".

        Raises:
            BuildFailed: The build does not run.
        """
        return key in self._keys


def this_build() -> Build:
    """Return the build that runs."""
    return Build(_revision(HERE), HERE, Path(sys.executable))


@contextmanager
def other_build(
    revision: str, folder: Path, python: Path | None, *, say: Callable[[str], None]
) -> Iterator[Build]:
    """Check a revision out as a git worktree, which is removed in the end.

    Args:
        revision: What git calls it.
        folder: Empty folder for the worktree and its environment.
        python: An interpreter that has the packages; None to make an environment and install them with pip.
        say: Told what takes time.

    Raises:
        BuildFailed: git or pip failed.
    """
    tree = folder / "tree"
    say(f"checking out {revision}")
    _run(["git", "worktree", "add", "--detach", "--quiet", str(tree), revision], cwd=HERE)
    try:
        if python is None:
            say(f"installing {revision}: this takes minutes")
            _run([sys.executable, "-m", "venv", str(folder / "env")], cwd=folder)
            python = folder / "env" / "bin" / "python"
            limits = ["-c", "constraints.txt"] if (tree / "constraints.txt").is_file() else []
            command = [str(python), "-m", "pip", "install", "--quiet", *limits, ".[onnx]"]
            _run(command, cwd=tree, seconds=30 * _MINUTE)
        yield Build(_revision(tree), tree, python)
    finally:
        _run(["git", "worktree", "remove", "--force", str(tree)], cwd=HERE)


def _revision(tree: Path) -> str:
    """The short name of a checkout's commit; a plus sign says that files differ from it."""
    try:
        commit = _run(["git", "rev-parse", "--short", "HEAD"], cwd=tree).strip()
        changed = _run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=tree).strip()
    except BuildFailed:
        return "installed"  # no checkout
    return commit + ("+" if changed else "")


def _run(
    command: Sequence[str],
    *,
    cwd: Path,
    environ: Mapping[str, str] | None = None,
    seconds: float = 5 * _MINUTE,
) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(environ or {})},
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{command[0]} did not run: {error}") from error
    except subprocess.CalledProcessError as error:
        raise BuildFailed(f"{' '.join(command[:4])} ... failed: {error.stderr.strip()[-600:]}") from error
    return done.stdout
