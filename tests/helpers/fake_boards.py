"""Boards to try meters on: copies of ``trees/`` whose files a test changes, and faults on reading them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from dance_ondevice.energy.reading import EnergyReading
from dance_ondevice.energy.sysfs import read_attribute

TREES = Path(__file__).parent.parent / "energy" / "trees"
PMIC_OUTPUT = (TREES / "pi5" / "pmic_read_adc.txt").read_text()


def denied(path: Path) -> OSError:
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def busy(path: Path) -> OSError:
    return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))


def gone(path: Path) -> OSError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


class FakeBoard:
    """``faults`` holds, by the end of a path, a text that is read instead or what makes the error to raise.

    Root may read everything, so forbidden and busy files cannot be had from the file system itself.
    """

    def __init__(self, tree: str, folder: Path) -> None:
        shutil.copytree(TREES / tree, folder / tree, symlinks=True)
        self.sysfs = folder / tree / "sys"
        self.faults: dict[str, object] = {}

    def put(self, path: str, value: object) -> None:
        target, text = self.sysfs / path, f"{value}\n".encode()
        try:
            file = target.open("r+b")  # to empty a file first costs a disk milliseconds, each time
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)
            return
        with file:
            file.write(text)
            if file.seek(0, os.SEEK_END) != len(text):
                file.truncate(len(text))

    def read(self, path: Path) -> str:
        for end, fault in self.faults.items():
            if str(path).endswith(end):
                if callable(fault):
                    raise fault(path)
                return str(fault)
        return read_attribute(path)


def no_command(command: Sequence[str]) -> str:
    raise FileNotFoundError(errno.ENOENT, "No such file or directory", command[0])


def joules(reading: EnergyReading) -> dict[str, float]:
    return {domain.domain: domain.joules for domain in reading.domains}


def parts(reading: EnergyReading) -> dict[str, float]:
    return {domain.domain: domain.joules for domain in reading.breakdown}
