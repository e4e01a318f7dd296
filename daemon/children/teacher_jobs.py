"""What passes between the daemon and its teacher process: one JSON job in, one JSON event a line out."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dance_ondevice.documents import decode

__all__ = [
    "Calibrated",
    "Taught",
    "TeachSample",
    "TeacherEvent",
    "TeacherJob",
    "encode_job",
    "read_teacher_job",
]


class TeachSample(msgspec.Struct, frozen=True, kw_only=True):
    """One stored sample: absolute paths (``label`` only to calibrate on), (height, width) as captured."""

    id: str
    image: str
    size: tuple[int, int]
    label: str = ""


class TeacherJob(msgspec.Struct, frozen=True, kw_only=True):
    """One run's work order, written to ``teaching/job.json``.

    Attributes:
        teacher: folder or ``model.safetensors`` of a checkpoint, an ``.onnx`` file, or with a factory a
            ``.safetensors`` file of its weights; may be empty with a factory.
        factory: "package.module:callable", or empty.
        classes: of the model that learns.
        out: folder for the masks.
        samples: to label, those worth most first.
        calibration: labelled samples to measure the teacher on first; empty when ``thresholds`` are known.
        thresholds: of an earlier run, by class; empty to calibrate.
        default: threshold while there is nothing to calibrate on.
        target: share of the accepted pixels that must agree with labels.
        live: folder of the live model, scored against the teacher; empty to leave that out.
        threads: CPU threads; 0 takes all cores.
    """

    teacher: str
    factory: str
    classes: tuple[str, ...]
    out: str
    samples: tuple[TeachSample, ...]
    calibration: tuple[TeachSample, ...]
    thresholds: tuple[float, ...]
    default: float
    target: float
    live: str
    threads: int


class Calibrated(msgspec.Struct, frozen=True, kw_only=True, tag="calibrated"):
    """From which confidence on the teacher is believed.

    Attributes:
        thresholds: by class; above 1 for a class that it is never believed on.
        agreement: of the accepted pixels with labels; None without any.
        samples: labelled samples that this was measured on.
    """

    thresholds: tuple[float, ...]
    agreement: float | None
    samples: int


class Taught(msgspec.Struct, frozen=True, kw_only=True, tag="taught"):
    """The teacher has segmented one sample.

    Attributes:
        id: of the sample.
        mask: the label's file; empty when too little of it could be believed, or the image is damaged.
        classes: ids in it.
        confidence: mean over the accepted pixels.
        accepted: share of the pixels that were accepted.
        agreement_with_teacher: share of the accepted pixels on which the live model says the same.
        uncertainty: 1 less the live model's mean confidence.
        error: why the image could not be used.
    """

    id: str
    mask: str = ""
    classes: tuple[int, ...] = ()
    confidence: float = 0.0
    accepted: float = 0.0
    agreement_with_teacher: float | None = None
    uncertainty: float | None = None
    error: str = ""


TeacherEvent = Calibrated | Taught

_encoder = msgspec.json.Encoder()
_jobs: msgspec.json.Decoder[TeacherJob] = msgspec.json.Decoder(TeacherJob)


def encode_job(job: TeacherJob) -> bytes:
    """The file's content."""
    return _encoder.encode(job)


def read_teacher_job(path: Path) -> TeacherJob:
    """Read a work order.

    Raises:
        OSError: it is not there.
        DocumentError: it is none.
    """
    return decode(path.read_bytes(), _jobs)
