"""What passes between the daemon and its trainer process: one JSON job in, one JSON event a line out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from dance_ondevice.policies.promotion import Scores


class JobSample(msgspec.Struct, frozen=True, kw_only=True):
    """One stored sample: absolute paths, how much it counts in the loss, and the factor to resize it by."""

    id: str
    image: str
    label: str
    weight: float = 1.0
    scale: float = 1.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One round's work order, written to ``rounds/<id>/job.json``.

    Attributes:
        round: the round's id.
        live: folder of the model to start from.
        frozen: folder of the first model, scored beside it.
        out: folder that receives the candidate model.
        checkpoint: folder for the state of an interrupted run; resumed from when it is complete.
        n_classes: number of classes.
        train, rehearsal: new and old samples to learn from.
        gate: held-out samples; scored, never learnt from.
        target_macs: slim the candidate to this many MACs at ``size`` before training; None: do not slim.
        size: reference (height, width) for MACs.
        steps: optimiser steps.
        precision: ``auto``, ``fp32`` or ``bf16``.
        precision_cache: file that remembers what ``auto`` measured on this board.
        threads: CPU threads.
    """

    round: str
    live: str
    frozen: str
    out: str
    checkpoint: str
    n_classes: int
    train: tuple[JobSample, ...]
    rehearsal: tuple[JobSample, ...]
    gate: tuple[JobSample, ...]
    target_macs: int | None
    size: tuple[int, int]
    steps: int
    batch_size: int
    learning_rate: float
    precision: Literal["auto", "fp32", "bf16"]
    precision_cache: str
    threads: int
    seed: int


class ScoreCard(msgspec.Struct, frozen=True, kw_only=True):
    """A model's scores on the gate samples, one confusion matrix over all of them."""

    miou: float
    iou_per_class: tuple[float | None, ...]
    pixels_per_class: tuple[int, ...]
    samples: int

    def scores(self) -> Scores:
        """As the promotion policy takes them."""
        return Scores(
            miou=self.miou,
            iou_per_class=self.iou_per_class,
            pixels_per_class=self.pixels_per_class,
            samples=self.samples,
        )


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The trainer runs."""

    pid: int


class Evaluated(msgspec.Struct, frozen=True, tag="evaluated"):
    """One of the three models was scored on the gate."""

    model: Literal["live", "frozen", "candidate"]
    scores: ScoreCard


class Slimmed(msgspec.Struct, frozen=True, tag="slimmed"):
    """The candidate lost channels (or, with a note, could not)."""

    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int
    note: str = ""


class Stepped(msgspec.Struct, frozen=True, tag="step"):
    """One optimiser step is done; ``macs`` is the training cost so far."""

    step: int
    steps: int
    loss: float
    macs: int


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The candidate is on disk and scored."""

    macs: int
    parameters: int
    training_macs: int
    precision: str


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    """SIGTERM was obeyed: the state after ``step`` is on disk and the round can go on from it."""

    step: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The trainer gave up; ``error`` is for the round's record."""

    error: str


Event = Started | Evaluated | Slimmed | Stepped | Done | Stopped | Failed

_encoder = msgspec.json.Encoder()
_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_jobs: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)


def encode(message: Job | Event) -> bytes:
    """One line of JSON, newline not included."""
    return _encoder.encode(message)


def decode_event(line: bytes) -> Event:
    """Read one line of a trainer.

    Raises:
        msgspec.DecodeError: the line is not an event.
    """
    return _events.decode(line)


def read_job(path: Path) -> Job:
    """Read a job file.

    Raises:
        OSError: it is not there.
        msgspec.DecodeError: it is not a job.
    """
    return _jobs.decode(path.read_bytes())
