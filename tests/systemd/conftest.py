"""The service as `make install-service` puts it in place, in a staging folder and without a network."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from machine import DEPENDENCIES, Machine, unfit

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = "/opt/dance-ondevice"
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def service_python() -> str:
    """An interpreter that a service can read, of the version whose packages are here; else this one."""
    for candidate in (f"/usr/bin/{VERSION}", f"/usr/local/bin/{VERSION}"):
        if Path(candidate).exists():
            done = subprocess.run(
                [candidate, "-c", "import ensurepip, venv"], capture_output=True, check=False
            )
            if done.returncode == 0:
                return candidate
    return sys.executable


@dataclass(frozen=True)
class Stage:
    """A staged installation; ``root`` stands for the file system's root."""

    root: Path
    python: str

    def path(self, name: str) -> Path:
        """Where a file of the installed system is here."""
        return self.root / name.lstrip("/")

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        """Run a target of the Makefile into this stage."""
        return subprocess.run(
            [
                *("make", target, f"DESTDIR={self.root}", f"PREFIX={PREFIX}", f"PYTHON={self.python}"),
                "PIP_ARGS=--no-index --no-deps",
            ],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def packages() -> Path:
    """Where this environment's packages are."""
    return Path(sysconfig.get_path("purelib"))


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, packages: Path) -> Stage:
    """Installed once; the dependencies are those of the environment that runs the tests."""
    stage = Stage(tmp_path_factory.mktemp("service") / "root", service_python())
    here, there = stage.path("/opt/packages-here"), stage.path("/opt/packages")
    for folder, target in ((here, packages), (there, Path(DEPENDENCIES))):
        folder.mkdir(parents=True)
        for entry in packages.iterdir():
            if "dance" not in entry.name and not entry.name.startswith(("pip", "_virtualenv")):
                (folder / entry.name).symlink_to(target / entry.name)
    site = stage.path(f"{PREFIX}/lib/{VERSION}/site-packages")
    site.mkdir(parents=True)
    (site / "dependencies.pth").write_text(f"{here}\n/opt/packages\n")
    done = stage.make("install-service")
    assert done.returncode == 0, done.stdout + done.stderr
    return stage


@pytest.fixture
def machine(stage: Stage, packages: Path, tmp_path: Path) -> Iterator[Machine]:
    """A booted machine with the service installed, or a skip that says why there can be none."""
    if stage.python == sys.executable:
        pytest.skip(f"no {VERSION} outside of home folders that could make an environment for the service")
    if reason := unfit():
        pytest.skip(reason)
    with Machine(stage.root, packages, tmp_path / "machine") as booted:
        yield booted
