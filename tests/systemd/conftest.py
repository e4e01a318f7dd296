"""The service as `make install-service` puts it in place, in a staging folder and without a network."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import DEPENDENCIES, Machine, unfit
from staging import PREFIX, VERSION, Stage, service_python


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
