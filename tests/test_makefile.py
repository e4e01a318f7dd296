"""The Makefile's words to someone whose machine lacks something, and the pins it installs with."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=30
    )


def fake_python(folder: Path, script: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            'case "$*" in *-V*) echo Python 3.9.1;; *version_info*) exit 1;; esac',
            "Python 3.9.1, Python 3.10 or newer",
        ),
        ('case "$*" in *ensurepip*) exit 1;; esac', "apt install python3-venv"),
    ],
    ids=["too old", "no venv"],
)
def test_unfit_python_is_named(tmp_path: Path, script: str, said: str) -> None:
    done = make("run", f"VENV={tmp_path / 'venv'}", f"PYTHON={fake_python(tmp_path, script)}")

    assert done.returncode != 0
    assert said in done.stderr


def test_missing_python_is_named(tmp_path: Path) -> None:
    done = make("run", f"VENV={tmp_path / 'venv'}", "PYTHON=no-such-python")

    assert done.returncode != 0
    assert "apt install python3 python3-venv" in done.stderr


def test_torch_index_is_used_for_torch_only(tmp_path: Path) -> None:
    planned = make(
        "-n", "test", f"VENV={tmp_path / 'venv'}", "TORCH_INDEX_URL=https://wheels.example/cpu"
    ).stdout
    lines = [line for line in planned.splitlines() if "pip install" in line]

    assert [line for line in lines if "--index-url" in line] == [line for line in lines if " torch==" in line]
    assert len([line for line in lines if " torch==" in line]) == 1


def test_help_names_every_target() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    (targets,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    shown = make("help").stdout

    assert all(f"make {target} " in shown for target in targets.split() if target != "help")


def test_every_requirement_is_pinned() -> None:
    """A requirement without a pin would install today's release on a fresh machine."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    wanted = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    required = {re.split(r"[^A-Za-z0-9_-]", line)[0] for text in wanted for line in text.split("\n") if line}
    pinned = set(
        re.findall(r"^([A-Za-z0-9_.-]+)==", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    )

    def plain(names: set[str]) -> set[str]:
        return {name.lower().replace("_", "-") for name in names}

    assert plain(required) - plain(pinned) == set()
