"""The daemon, but for calls to the system that fail, or a clock that jumps, as long as a file says so.

Usage: faulty_daemon.py FAULTS_FILE COMMAND...

The file holds JSON: ``{"call": "fsync", "errno": 5, "path": "/samples/"}`` makes ``os.fsync`` fail for files
with that text in their path; ``{"clock": 3.15e8}`` moves the calendar by so many seconds. Empty: all is well.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

#: Calls of the module ``os`` that write: the position of the path or descriptor among their arguments.
CALLS = {"open": 0, "write": 0, "fsync": 0, "replace": 1, "rename": 1, "mkdir": 0}


def fault_of(file: Path) -> dict[str, Any]:
    """What is to fail now."""
    text = file.read_text()
    return json.loads(text) if text else {}


def install(file: Path) -> None:
    """Replace the calls; only before the daemon's modules are imported, which keep ``time.time``."""
    for name, position in CALLS.items():
        setattr(os, name, _failing(name, getattr(os, name), position, file))
    real_time = time.time
    time.time = lambda: real_time() + float(fault_of(file).get("clock", 0.0))


def _failing(name: str, real: Any, position: int, file: Path) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        fault = fault_of(file)
        if fault.get("call") == name:
            target = arguments[position]
            path = (
                Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else os.fspath(target)
            )
            writes = name != "open" or arguments[1] & os.O_CREAT
            if writes and fault["path"] in os.fsdecode(path):
                raise OSError(fault["errno"], os.strerror(fault["errno"]), os.fsdecode(path))
        return real(*arguments, **options)

    return call


if __name__ == "__main__":
    install(Path(sys.argv[1]))
    from dance_ondevice.daemon.cli import main

    main(sys.argv[2:])
