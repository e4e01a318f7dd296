"""What was freed goes back to the system or stays, as a process needs it, and threads share few arenas."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library is not glibc, and has no such heap"
)

_TRIM = """
import ctypes
from pathlib import Path
from dance_ondevice.runtime.heap import trim

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
# Below the size from which blocks are mapped one by one; each is written to, and the last one stays.
blocks = [libc.malloc(100_000) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:
    libc.free(block)
before = resident()
trim()
print(before - resident())
"""

_ARENAS = """
import ctypes, re, sys, threading
from dance_ondevice.runtime.heap import few_arenas

if sys.argv[1:]:
    few_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
barrier = threading.Barrier(8)

def allocate():
    barrier.wait()
    libc.malloc(10_000)
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = libc.fopen(b"/dev/stdout", b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""

_KEEP = """
import ctypes, resource, sys
from dance_ondevice.runtime.heap import keep_freed

if sys.argv[1:]:
    keep_freed()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for step in range(11):
    if step == 1:
        before = faults()
    block = libc.malloc(100_000_000)
    ctypes.memset(block, 1, 100_000_000)
    libc.free(block)
print(faults() - before)
"""


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_trimming_gives_back_what_was_freed_below_a_block_that_stays() -> None:
    assert int(run(_TRIM)) > 50_000_000


def test_threads_share_two_arenas() -> None:
    assert run(_ARENAS, "few").count("<heap nr=") <= 2
    assert run(_ARENAS).count("<heap nr=") > 2, "or the test shows nothing"


def test_what_a_step_freed_is_there_for_the_next_one() -> None:
    assert int(run(_KEEP, "keep")) < 10_000
    assert int(run(_KEEP)) > 100_000, "or the test shows nothing"
