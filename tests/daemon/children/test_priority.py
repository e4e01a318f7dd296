from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dance_ondevice.daemon.children.priority import raise_priority

IDLE = """
import os, sys, threading
os.nice(19)
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
threading.Thread(target=sys.stdin.read, daemon=True).start()
print("idle", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, or a limit of niceness")
def test_all_threads_of_an_idle_child_compete_again() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", IDLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "idle\n"
        threads = [int(path.name) for path in (Path("/proc") / str(child.pid) / "task").iterdir()]
        assert len(threads) == 2
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_IDLE}
        raise_priority(child.pid)
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {0}
        child.kill()


def test_a_child_that_is_gone_is_no_error() -> None:
    raise_priority(2**22 + 1)


LOWERED = """
import os, sys
from dance_ondevice.daemon.children.child import lower_priority
lower_priority(parent=os.getppid(), background=sys.argv[1] == "background")
print(os.sched_getscheduler(0) == os.SCHED_IDLE, os.nice(0))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("priority", "idle", "nicer_by"), [("background", "True", 19), ("normal", "False", 0)]
)
def test_a_child_competes_only_where_it_is_to(priority: str, idle: str, nicer_by: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOWERED, priority], stdout=subprocess.PIPE, text=True, check=True
    )
    is_idle, nice = done.stdout.split()

    assert is_idle == idle
    assert int(nice) == min(19, os.nice(0) + nicer_by)
