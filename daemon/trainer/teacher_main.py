"""The teacher process: calibrates a teacher on labelled samples, then labels others; one event a sample.

Runs as ``python -m dance_ondevice.daemon.trainer.teacher_main FOLDER/job.json PARENT_PID``, at the
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
from numpy.typing import NDArray

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.child import emit, lower_priority, open_events, out_of_memory
from dance_ondevice.daemon.children.teacher_jobs import (
    Calibrated,
    Taught,
    TeacherJob,
    TeachSample,
    read_teacher_job,
)
from dance_ondevice.daemon.trainer.teacher_models import Seen, Teacher, TeacherError, load_teacher
from dance_ondevice.files import read_regular, write_synced
from dance_ondevice.images.codec import decode_colour, decode_label, encode_label
from dance_ondevice.images.headers import ImageError
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.policies.samples import labelling
from dance_ondevice.runtime import devices
from dance_ondevice.runtime.heap import keep_freed

#: A label that covers a smaller share of the pixels than this has little to teach.
LEAST_ACCEPTED = 0.02


def main(arguments: Sequence[str]) -> int:
    """Run the job; returns the process's exit status."""
    lower_priority(parent=int(arguments[1]), background="normal" not in arguments[2:])
    keep_freed()
    events = open_events()
    try:
        _run(read_teacher_job(Path(arguments[0])), events)
    except TeacherError as error:
        emit(events, jobs.Failed(error=str(error)))
        return 1
    except Exception as error:  # any error must reach the record
        emit(events, jobs.Failed(error=f"{type(error).__name__}: {error}", memory=out_of_memory(error)))
        raise
    return 0


def _run(job: TeacherJob, events: TextIO) -> None:
    if job.threads > 0:
        torch.set_num_threads(job.threads)
    emit(events, jobs.Started(pid=os.getpid()))
    chosen = devices.choose(job.device)
    emit(events, jobs.OnDevice(chosen.name, chosen.reason))
    teacher = load_teacher(job.teacher, job.factory, job.classes, chosen.name)
    live = load_teacher(job.live, "", job.classes, chosen.name) if job.live else None
    thresholds = job.thresholds
    if not thresholds:
        found, frames = _calibrate(job, teacher)
        thresholds = found.thresholds
        emit(
            events,
            Calibrated(
                thresholds=thresholds, agreement=found.agreement, samples=len(frames), frames=tuple(frames)
            ),
        )
        if not found.trusted:
            return
    # 255 is the teacher's answer where it sees none of the learner's classes: it is never accepted.
    accept = np.full(IGNORE + 1, labelling.NEVER, np.float32)
    accept[: len(thresholds)] = thresholds
    for sample in job.samples:
        emit(events, _teach(job, sample, teacher, live, accept))


def _calibrate(job: TeacherJob, teacher: Teacher) -> tuple[labelling.Calibration, list[tuple[int, int]]]:
    """Thresholds from the labelled samples; of each that could be used, its agreed and accepted pixels."""
    classes = len(job.classes)
    correct = np.zeros((classes, labelling.BINS), np.int64)
    total = np.zeros_like(correct)
    each: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for sample in job.calibration:
        try:
            label = decode_label(read_regular(Path(sample.label)))
            seen = teacher(decode_colour(read_regular(Path(sample.image))), (label.shape[0], label.shape[1]))
        except (OSError, ImageError):
            continue  # evicted or damaged since it was chosen
        own = np.zeros_like(correct), np.zeros_like(total)
        _count(*own, seen, label)
        correct += own[0]
        total += own[1]
        each.append(own)
    found = labelling.calibrate(correct.tolist(), total.tolist(), target=job.target, default=job.default)
    first = np.ceil(np.array(found.thresholds) * labelling.BINS - 1e-3)
    accepted = np.arange(labelling.BINS) >= first[:, None]
    return found, [(int(right[accepted].sum()), int(seen[accepted].sum())) for right, seen in each]


def _count(
    correct: NDArray[np.int64], total: NDArray[np.int64], seen: Seen, label: NDArray[np.uint8]
) -> None:
    """Add the pixels of one sample to the counts by the teacher's class and step of confidence."""
    classes, bins = total.shape
    counts = (label < classes) & (seen.mask < classes)
    cell = seen.mask[counts].astype(np.int64) * bins + bin_of(seen.confidence[counts])
    right = seen.mask[counts] == label[counts]
    total += np.bincount(cell, minlength=total.size).reshape(total.shape)
    correct += np.bincount(cell[right], minlength=total.size).reshape(total.shape)


def bin_of(confidence: NDArray[np.float32]) -> NDArray[np.int64]:
    """The step of confidence, 0 to ``BINS`` - 1; a threshold of k/BINS accepts the steps from k on."""
    return np.minimum((confidence * labelling.BINS).astype(np.int64), labelling.BINS - 1)


def _teach(
    job: TeacherJob,
    sample: TeachSample,
    teacher: Teacher,
    live: Teacher | None,
    accept: NDArray[np.float32],
) -> Taught:
    try:
        image = decode_colour(read_regular(Path(sample.image)))
    except (OSError, ImageError) as error:
        return Taught(id=sample.id, error=str(error))
    seen = teacher(image, sample.size)
    steps = np.ceil(accept * labelling.BINS - 1e-3)
    believed = bin_of(seen.confidence) >= steps[seen.mask]
    agreement = uncertainty = None
    if live is not None:
        own = live(image, sample.size)
        uncertainty = 1.0 - float(own.confidence.mean())
        if believed.any():
            agreement = float((own.mask == seen.mask)[believed].mean())
    accepted = float(believed.mean())
    if accepted < LEAST_ACCEPTED:
        return Taught(
            id=sample.id, accepted=accepted, agreement_with_teacher=agreement, uncertainty=uncertainty
        )
    mask = np.where(believed, seen.mask, np.uint8(IGNORE))
    file = Path(job.out) / f"{sample.id}.png"
    write_synced(file, encode_label(mask))
    return Taught(
        id=sample.id,
        mask=str(file),
        classes=tuple(int(i) for i in np.unique(mask[believed])),
        confidence=float(seen.confidence[believed].mean()),
        accepted=accepted,
        agreement_with_teacher=agreement,
        uncertainty=uncertainty,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
