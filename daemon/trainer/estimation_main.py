"""The estimation process: measures the statistics of one condition of a version on images of it.

Runs as ``python -m dance_ondevice.daemon.trainer.estimation_main FOLDER/job.json PARENT_PID``, at the
priority of the trainer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dance_ondevice.conditions import store as condition_store
from dance_ondevice.conditions.agreement import estimate_agreeing
from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.child import emit, lower_priority, open_events, out_of_memory
from dance_ondevice.daemon.children.estimation_jobs import Estimated, EstimationJob, read_estimation_job
from dance_ondevice.files import write_durably
from dance_ondevice.images.codec import decode_colour
from dance_ondevice.models import checkpoint
from dance_ondevice.runtime.heap import keep_freed


def main(arguments: Sequence[str]) -> int:
    """Run the job; returns the process's exit status."""
    lower_priority(parent=int(arguments[1]), background="normal" not in arguments[2:])
    keep_freed()
    events = open_events()
    try:
        found = _estimate(read_estimation_job(Path(arguments[0])))
    except Exception as error:  # any error must reach the parent
        emit(events, jobs.Failed(error=f"{type(error).__name__}: {error}", memory=out_of_memory(error)))
        raise
    emit(events, found)
    return 0


def _estimate(job: EstimationJob) -> Estimated:
    torch.set_num_threads(1)  # the daemon goes on beside it
    model, card = checkpoint.load(Path(job.version))
    found = estimate_agreeing(model, job.images, _image, card.normalisation, batch_size=1)
    write_durably(Path(job.out), condition_store.encode({"estimated": found.statistics}))
    return Estimated(images=len(job.images))


def _image(file: str) -> NDArray[np.uint8]:
    return decode_colour(Path(file).read_bytes())


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # Leaving the usual way unloads torch, which takes a board seconds.
    os._exit(status)
