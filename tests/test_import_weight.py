"""What an import may load: a board that only ingests has no memory to spare for torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "dance_ondevice"
#: Modules that may load torch as they are imported: children, and what serves where no engine does.
TORCH_ROOMS = ("dance_ondevice.daemon.inference.last_resort", "dance_ondevice.daemon.trainer.")

# Imports one module after the other and names for each what it was the first to load.
PROBE = """
import importlib, json, sys
heavy, modules = json.loads(sys.argv[1])
found = {}
for module in modules:
    before = set(sys.modules)
    importlib.import_module(module)
    loaded = (set(sys.modules) - before) & set(heavy)
    if loaded:
        found[module] = sorted(loaded)
print(json.dumps(found))
"""


def loads(modules: Sequence[str], heavy: Sequence[str]) -> dict[str, list[str]]:
    """Which of ``heavy`` the import of each module loads, in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps([heavy, modules])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def modules_of(package: str) -> list[str]:
    """Every module of a subpackage, by its dotted name."""
    root = (PACKAGE / package).resolve()
    names = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        names.append(".".join(("dance_ondevice", package, *(part for part in parts if part != "__init__"))))
    return names


@pytest.mark.usefixtures("uncounted")
def test_probe_sees_what_is_loaded() -> None:
    assert loads(["json.decoder", "sqlite3"], ["sqlite3", "torch"]) == {"sqlite3": ["sqlite3"]}


@pytest.mark.slow
def test_daemon_loads_torch_in_children_and_as_the_last_resort_only() -> None:
    modules = [
        name
        for name in modules_of("daemon")
        if not name.startswith(TORCH_ROOMS) and not name.endswith("__main__")
    ]

    assert {"dance_ondevice.daemon.inference.service", "dance_ondevice.daemon.supervisor"} <= set(modules)
    assert loads(modules, ["torch", "torch_pruning"]) == {}


def test_policies_load_the_standard_library_only() -> None:
    heavy = ["cv2", "msgspec", "numpy", "sqlite3", "sqlite_utils", "torch", "zmq"]

    assert loads(modules_of("policies"), heavy) == {}


def test_report_of_the_demo_needs_no_torch() -> None:
    assert loads(["dance_ondevice.demo.command", "dance_ondevice.demo.reporting.report"], ["torch"]) == {}
