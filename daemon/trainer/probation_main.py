"""The probation process: the version on probation and the one before it segment the same frames.

Runs as ``python -m dance_ondevice.daemon.trainer.probation_main FOLDER/job.json PARENT_PID``, at the
priority of the trainer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from torch import nn

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.child import emit, lower_priority, open_events, out_of_memory
from dance_ondevice.daemon.trainer.estimates import estimate
from dance_ondevice.daemon.trainer.interrupts import ParentRequests
from dance_ondevice.daemon.trainer.scores import counts_of
from dance_ondevice.daemon.trainer.serving import Kept, Serving, kept
from dance_ondevice.daemon.trainer.sift import fault, sample_of
from dance_ondevice.daemon.versions.condition_file import CONDITIONS_FILE
from dance_ondevice.images.confusion import confusion_matrix
from dance_ondevice.images.scaling import resize_for_inference
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import predict
from dance_ondevice.runtime import devices
from dance_ondevice.runtime.heap import keep_freed
from dance_ondevice.training.batches import TrainingSample, read_image, read_label


def main(arguments: Sequence[str]) -> int:
    """Run the job; returns the process's exit status."""
    lower_priority(parent=int(arguments[1]), background="normal" not in arguments[2:])
    keep_freed()
    events = open_events()
    requests = ParentRequests()
    requests.listen()
    job = jobs.read_probation_job(Path(arguments[0]))
    try:
        _run(job, events, requests)
    except Exception as error:  # any error must reach the parent
        emit(events, jobs.Failed(error=f"{type(error).__name__}: {error}", memory=out_of_memory(error)))
        raise
    return 0


def _run(job: jobs.ProbationJob, events: TextIO, requests: ParentRequests) -> None:
    if job.threads > 0:
        torch.set_num_threads(job.threads)
    emit(events, jobs.Started(pid=os.getpid()))
    before, before_card = checkpoint.load(Path(job.before))
    live, live_card = checkpoint.load(Path(job.live))
    if job.estimate:
        for model, card in ((before, before_card), (live, live_card)):
            estimate(model, job.estimate, card.normalisation)
    chosen = devices.choose(job.device)
    emit(events, jobs.OnDevice(chosen.name, chosen.reason))
    with (
        devices.on_device(chosen.name, before, live),
        _serving(job, Path(job.before), before).on(before) as apply_before,
        _serving(job, Path(job.live), live).on(live) as apply_live,
    ):
        for sample in job.samples:
            if requests.leave:
                return
            if (error := fault(sample, job.n_classes)) is not None:
                emit(events, jobs.Unreadable(id=sample.id, error=error))
                continue
            apply_before(sample.condition)
            apply_live(sample.condition)
            emit(
                events,
                _observe(
                    sample,
                    (before, before_card.normalisation),
                    (live, live_card.normalisation),
                    job.n_classes,
                ),
            )


def _serving(job: jobs.ProbationJob, version: Path, model: nn.Module) -> Serving:
    """The statistics that frames would be served with if this version were live."""
    found = kept(version / CONDITIONS_FILE, model) if job.conditions else Kept()
    return Serving(found.sets, found.known)


def _observe(
    sample: jobs.JobSample,
    before: tuple[nn.Module, Normalisation],
    live: tuple[nn.Module, Normalisation],
    n_classes: int,
) -> jobs.Observed:
    stored: TrainingSample = sample_of(sample)
    image = resize_for_inference(read_image(stored), stored.scale)
    label = read_label(stored, n_classes) if sample.label else None
    size = image.shape[:2] if label is None else label.shape
    first, second = (predict(model, image, normalisation, size) for model, normalisation in (before, live))
    counts = (
        (None, None)
        if label is None
        else tuple(
            counts_of(sample.id, confusion_matrix(label, prediction.mask, n_classes))
            for prediction in (first, second)
        )
    )
    return jobs.Observed(
        id=sample.id,
        confidence_before=first.mean_confidence,
        confidence_live=second.mean_confidence,
        agreement=float(np.mean(first.mask == second.mask)),
        before=counts[0],
        live=counts[1],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
