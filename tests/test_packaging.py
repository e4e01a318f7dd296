"""What is built is the tree: the wheel comes from the sdist, so one build tests both."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dance_ondevice import __version__

REPOSITORY = Path(__file__).resolve().parent.parent
NOT_SOURCE = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".cache",
    "site",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "*.egg-info",
    "build",
    "dist",
    "demo-report",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that was built from this sdist."""
    source = tmp_path_factory.mktemp("packaging") / "source"
    shutil.copytree(REPOSITORY, source, symlinks=True, ignore=NOT_SOURCE)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return source / "dist"


def wheel_names(built: Path) -> set[str]:
    with zipfile.ZipFile(built / f"dance_ondevice-{__version__}-py3-none-any.whl") as wheel:
        return set(wheel.namelist())


def tree_names(pattern: str) -> set[str]:
    """Files of the package that match, under their installed names; the symlinked folders are walked by hand
    since Path.rglob does not follow them."""
    return {
        name for name in _walk(REPOSITORY / "dance_ondevice", "dance_ondevice") if Path(name).match(pattern)
    }


def _walk(folder: Path, name: str) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.name == "__pycache__":
            continue
        if entry.is_dir():
            yield from _walk(entry, f"{name}/{entry.name}")
        else:
            yield f"{name}/{entry.name}"


@pytest.mark.slow
def test_wheel_packages_equal_the_tree(built: Path) -> None:
    expected = tree_names("*.py")

    assert {name for name in wheel_names(built) if name.endswith(".py")} == expected
    assert {"dance_ondevice/daemon/system/service.py", "dance_ondevice/policies/__init__.py"} <= expected


@pytest.mark.slow
def test_wheel_carries_type_marker_and_data_files(built: Path) -> None:
    packaged = {name for name in wheel_names(built) if name.startswith("dance_ondevice/")}

    assert packaged == tree_names("*")
    assert "dance_ondevice/py.typed" in packaged


@pytest.mark.slow
def test_wheel_installs_nothing_outside_the_package(built: Path) -> None:
    tops = {name.split("/")[0] for name in wheel_names(built)}

    assert tops == {"dance_ondevice", f"dance_ondevice-{__version__}.dist-info"}


@pytest.mark.slow
def test_wheel_has_the_console_script(built: Path) -> None:
    with zipfile.ZipFile(built / f"dance_ondevice-{__version__}-py3-none-any.whl") as wheel:
        entry_points = wheel.read(f"dance_ondevice-{__version__}.dist-info/entry_points.txt").decode()

    assert "dance-ondevice = dance_ondevice.daemon.cli:main" in entry_points.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["systemd", "deploy", "docs"])
def test_sdist_carries_the_folder(built: Path, folder: str) -> None:
    with tarfile.open(built / f"dance_ondevice-{__version__}.tar.gz") as sdist:
        carried = {member.name.split("/", 1)[1] for member in sdist.getmembers() if member.isfile()}
    files = [path for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
    there = {str(path.relative_to(REPOSITORY)) for path in files if path.parent.name != "__pycache__"}

    assert there <= carried
    assert there, f"{folder}/ is empty"


@pytest.mark.parametrize("bare", ["daemon", "policies"])
def test_bare_names_are_refused(bare: str) -> None:
    """From the repository root Python finds ./daemon: it must not become a second copy of the package."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {bare}"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert done.returncode != 0
    assert f"ImportError: import dance_ondevice.{bare} instead of {bare}" in done.stderr


@pytest.mark.parametrize("name", ["daemon", "policies"])
def test_packages_are_symlinks_to_the_top_folders(name: str) -> None:
    link = REPOSITORY / "dance_ondevice" / name

    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
