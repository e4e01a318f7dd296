"""Messages between the daemon and the process that estimates the statistics of a condition."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dance_ondevice.documents import decode

__all__ = ["Estimated", "EstimationJob", "encode_job", "read_estimation_job"]


class EstimationJob(msgspec.Struct, frozen=True, kw_only=True):
    """The job of one estimation.

    Attributes:
        version: Folder of the version.
        images: Files of the images of the condition.
        out: File that receives the statistics, a file of conditions with one condition.
    """

    version: str
    images: tuple[str, ...]
    out: str


class Estimated(msgspec.Struct, frozen=True, tag="estimated"):
    """The statistics are on disk, estimated from so many images."""

    images: int


def encode_job(job: EstimationJob) -> bytes:
    """Encode a job as JSON."""
    return msgspec.json.encode(job)


def read_estimation_job(path: Path) -> EstimationJob:
    """Read a job file.

    Raises:
        OSError: The file cannot be read.
        DocumentError: The file does not hold such a job.
    """
    return decode(path.read_bytes(), EstimationJob)
