"""A wall clock that is set for one process alone: a library around ``clock_gettime``, loaded before it."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

# Seconds that CLOCK_REALTIME is moved by stand in a file that the library maps, so that they can change.
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile double *moved;
__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("MOVED_CLOCK");
    int descriptor = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    if (descriptor < 0) return;
    void *found = mmap(0, sizeof(double), PROT_READ, MAP_SHARED, descriptor, 0);
    if (found != MAP_FAILED) moved = found;
    close(descriptor);
}
int clock_gettime(clockid_t clock, struct timespec *at) {
    int done = syscall(SYS_clock_gettime, clock, at);
    if (!done && moved && clock == CLOCK_REALTIME) at->tv_sec += (time_t)*moved;
    return done;
}
"""


class MovedClock:
    """Moves the wall clock of processes that are started with ``environ``."""

    def __init__(self, folder: Path) -> None:
        """Build the library; skips the test where nothing can."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no C compiler to build the library that moves the clock")
        source, library, self._file = (folder / f"moved.{end}" for end in ("c", "so", "seconds"))
        source.write_text(_SOURCE)
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        self._file.write_bytes(struct.pack("d", 0.0))
        self.environ = {"LD_PRELOAD": str(library), "MOVED_CLOCK": str(self._file)}

    def set(self, seconds: float) -> None:
        """From now on the clock shows so many seconds more than that of the machine."""
        with self._file.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
            shared[:8] = struct.pack("d", seconds)
