"""Messages between the daemon and its teacher process: one JSON job in, one JSON event a line out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

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
    """One stored sample: absolute paths (``label`` only for calibration) and its captured (height, width)."""

    id: str
    image: str
    size: tuple[int, int]
    label: str = ""


class TeacherJob(msgspec.Struct, frozen=True, kw_only=True):
    """The job of one labelling run, written to ``teaching/job.json``.

    Attributes:
        teacher: Folder or ``model.safetensors`` of a checkpoint, an ``.onnx`` file, or, with a factory, a
            ``.safetensors`` file of its weights; may be empty with a factory.
        factory: "package.module:callable", or empty.
        classes: Classes of the model that learns.
        out: Folder for the masks.
        samples: Samples to label, the most valuable first.
        calibration: Labelled samples to measure the teacher on first; empty when ``thresholds`` are known.
        thresholds: Thresholds of an earlier run, by class; empty to calibrate.
        default: Threshold while there is nothing to calibrate on.
        target: Share of the accepted pixels that must agree with labels.
        live: Folder of the live model, which is compared with the teacher; empty to skip the comparison.
        threads: Number of CPU threads; 0 takes all cores.
        device: Where the models run: ``auto``, ``cpu`` or ``cuda``; ``.onnx`` files run on the CPU.
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
    device: Literal["auto", "cpu", "cuda"] = "cpu"


class Calibrated(msgspec.Struct, frozen=True, kw_only=True, tag="calibrated"):
    """The confidence thresholds above which the teacher's pixels are accepted.

    Attributes:
        thresholds: Threshold by class; above 1 where no pixel of the class is accepted.
        agreement: Share of the accepted pixels that agree with labels; None without labels.
        samples: Number of labelled samples that this was measured on.
        frames: Of each of them, the accepted pixels that agree with its label, and all that have one.
    """

    thresholds: tuple[float, ...]
    agreement: float | None
    samples: int
    frames: tuple[tuple[int, int], ...] = ()


class Taught(msgspec.Struct, frozen=True, kw_only=True, tag="taught"):
    """The teacher has segmented one sample.

    Attributes:
        id: The sample's id.
        mask: File of the label; empty when too few pixels were accepted, or the image is damaged.
        classes: Class ids in the label.
        confidence: Mean confidence over the accepted pixels.
        accepted: Share of the pixels that were accepted.
        agreement_with_teacher: Share of the accepted pixels to which the live model gives the same class.
        uncertainty: 1 minus the live model's mean confidence.
        error: Why the image could not be used.
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
    """Encode a job as the content of its file."""
    return _encoder.encode(job)


def read_teacher_job(path: Path) -> TeacherJob:
    """Read the job of one labelling run.

    Raises:
        OSError: The file cannot be read.
        DocumentError: The file does not hold such a job.
    """
    return decode(path.read_bytes(), _jobs)
