"""Sorts out the samples that a round cannot read: they are reported and left out, and the round goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from dance_ondevice.daemon.children import jobs
from dance_ondevice.training.batches import SampleError, TrainingSample, read_image, read_label

__all__ = ["NothingReadableError", "fault", "sample_of", "sift"]

#: Size of the test decode, the smallest one, for which the decoder still has to read the whole file.
_SMALLEST = (1.0, 1.0)


class NothingReadableError(ValueError):
    """No readable sample is left to learn from, or to judge by."""


def sample_of(sample: jobs.JobSample) -> TrainingSample:
    """A stored sample, as the training code takes it."""
    return TrainingSample(
        image=Path(sample.image), label=Path(sample.label), weight=sample.weight, scale=sample.scale
    )


def sift(job: jobs.Job, emit: Callable[[jobs.Event], None]) -> jobs.Job:
    """The same job without the samples that cannot be read, each of which is reported.

    The files of the others are linked beside the job, so that a file that is removed during the round stays
    readable until its end.

    Raises:
        NothingReadableError: No sample is left to learn from, or to judge by.
    """
    places = Path(job.out).parent / jobs.LINKS
    sound = _Sound(places, job.n_classes, emit)
    train, rehearsal = sound.of(job.train), sound.of(job.rehearsal)
    gate = sound.of(job.gate)
    if not train and not rehearsal:
        raise NothingReadableError("none of the samples to learn from can be read")
    if not gate:
        raise NothingReadableError("none of the held-out samples can be read")
    left = {each.id for each in gate}
    blocks = job.gate_blocks
    if len(blocks) == len(job.gate):
        blocks = tuple(block for block, each in zip(blocks, job.gate, strict=True) if each.id in left)
    return msgspec.structs.replace(job, train=train, rehearsal=rehearsal, gate=gate, gate_blocks=blocks)


def fault(sample: jobs.JobSample, n_classes: int) -> str | None:
    """Why a sample cannot be used (its image or label is missing, damaged or invalid), else None."""
    stored = sample_of(sample)
    try:
        read_image(stored, _SMALLEST)
        if sample.label:
            read_label(stored, n_classes)
    except SampleError as error:
        return str(error)
    return None


class _Sound:
    """Selects the readable samples and links their files."""

    def __init__(self, places: Path, n_classes: int, emit: Callable[[jobs.Event], None]) -> None:
        self._places = places
        self._n_classes = n_classes
        self._emit = emit
        self._links = 0

    def of(self, samples: Iterable[jobs.JobSample]) -> tuple[jobs.JobSample, ...]:
        found = []
        for sample in samples:
            linked = msgspec.structs.replace(
                sample, image=self._link(sample.image), label=self._link(sample.label)
            )
            error = fault(linked, self._n_classes)
            if error is None:
                found.append(linked)
            else:
                error = error.replace(linked.image, sample.image).replace(linked.label, sample.label)
                self._emit(jobs.Unreadable(id=sample.id, error=error))
        return tuple(found)

    def _link(self, file: str) -> str:
        self._links += 1
        # The file name is kept, because a saved state identifies its samples by it.
        link = self._places / str(self._links) / Path(file).name
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            os.link(file, link)
        except OSError:  # gone, or on a file system without links: the original is read
            return file
        return str(link)
