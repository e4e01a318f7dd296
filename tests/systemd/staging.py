"""A staged installation, as `make install-service` makes it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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
