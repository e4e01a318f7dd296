"""A program beside the daemon that has nothing to do with it, as a control for a round.

Where processors share a core, a cache or the memory's bandwidth, whatever computes on one slows the others,
and no priority helps: masks beside a trainer cannot be expected to be quicker than beside such a program.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

#: Multiplies matrices that fit a cache, on one thread, only when nothing else wants the processor.
_PROGRAM = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
import numpy
a = numpy.ones((256, 256), numpy.float32)
print("computes", flush=True)
while True:
    a @ a
"""


@contextlib.contextmanager
def neighbours(cores: int) -> Iterator[None]:
    """Keep all but one of so many processors busy; at least one of them."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with contextlib.ExitStack() as stack:
        for _ in range(max(1, cores - 1)):
            process = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, env=environ)
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            if not process.stdout.readline():
                raise OSError("the neighbour ended at once; see above")
        yield
