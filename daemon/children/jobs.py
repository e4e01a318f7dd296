"""What passes between the daemon and its trainer process: one JSON job in, one JSON event a line out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from dance_ondevice.daemon.children.counts import Counts, ScoreCard
from dance_ondevice.daemon.children.teacher_jobs import TeacherEvent
from dance_ondevice.documents import decode

#: The kinds of round; ``trainer/kinds.py`` has the code of each.
RoundKindName = Literal["whole", "condition"]


class JobSample(msgspec.Struct, frozen=True, kw_only=True):
    """One stored sample: absolute paths, how much it counts in the loss, and the factor to resize it by.

    ``condition`` is the one that the sample was taken in, empty where it is not known.
    """

    id: str
    image: str
    label: str
    weight: float = 1.0
    scale: float = 1.0
    condition: str = ""


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
        looks: steps after which some of the gate is evaluated, for the round's curve.
        min_gain: mIoU that promotion will ask for; a round without hope of it gives up early.
        confidence: of the bounds that this is judged with.
        gate_blocks: the block of time of each gate sample.
        distillation: weight of staying with the live model's answers on rehearsed samples; 0: none.
        kind: what kind of round it is; "" in a work order of an earlier build, see ``kind_of``.
        condition: the one condition that the round trains; None where it trains the shared weights of all.
        note: what the round leaves alone, for the candidate's certificate.
        conditions: the round's own copy of the live version's file of conditions, so that a resumed round
            sees the same; empty: one set of statistics serves everything.
        graph: write the candidate's graph for onnxruntime beside it, so that the daemon need not.
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
    looks: tuple[int, ...] = ()
    min_gain: float = 0.0
    confidence: float = 0.9
    gate_blocks: tuple[int, ...] = ()
    distillation: float = 0.0
    condition: str | None = None
    conditions: str = ""
    graph: bool = False
    kind: RoundKindName | Literal[""] = ""
    note: str = ""

    @property
    def kind_of(self) -> RoundKindName:
        """The kind of round; a work order of an earlier build tells it by its condition alone."""
        return self.kind or ("whole" if self.condition is None else "condition")


class ProbationJob(msgspec.Struct, frozen=True, kw_only=True):
    """Work order for the evaluation of a version on probation: two models over the same frames.

    Attributes:
        before: folder of the version that was live before.
        live: folder of the version on probation.
        samples: frames that came since; ``label`` is empty where there is none.
        threads: CPU threads.
        conditions: whether frames are segmented with the statistics of their conditions.
    """

    before: str
    live: str
    n_classes: int
    samples: tuple[JobSample, ...]
    threads: int
    conditions: bool = False


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


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True, tag="curve_point"):
    """A point of the round's curve: mIoU on some of the gate samples; step 0 is before the first step."""

    step: int
    miou: float
    live: float


class GaveUp(msgspec.Struct, frozen=True, tag="gave_up"):
    """The round has no hope of promotion: nothing is saved."""

    step: int
    reason: str


class Timed(msgspec.Struct, frozen=True, kw_only=True, tag="timed"):
    """What a mask takes on the same frame, in milliseconds of one core."""

    live_ms: float
    candidate_ms: float


class Observed(msgspec.Struct, frozen=True, kw_only=True, tag="observed"):
    """One frame of the evaluation of a version on probation.

    Attributes:
        before, live: counts where there is a label.
        confidence_before, confidence_live: mean over the pixels, 0 to 1.
        agreement: share of pixels with the same class, 0 to 1.
    """

    id: str
    confidence_before: float
    confidence_live: float
    agreement: float
    before: Counts | None = None
    live: Counts | None = None


class Unreadable(msgspec.Struct, frozen=True, kw_only=True, tag="unreadable"):
    """A sample's image or label cannot be read: it is left out. ``error`` names the file."""

    id: str
    error: str


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The candidate is on disk and scored; ``steps`` were done of those that were planned."""

    macs: int
    parameters: int
    training_macs: int
    precision: str
    steps: int = 0


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    """SIGTERM was obeyed: the state after ``step`` is on disk and the round can go on from it."""

    step: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The trainer could not go on: ``error`` for the round's record, ``memory`` if there was too little."""

    error: str
    memory: bool = False


RoundEvent = (
    Started | Evaluated | Slimmed | Stepped | CurvePoint | GaveUp | Timed | Observed | Unreadable | Done
)
Event = RoundEvent | Stopped | Failed | TeacherEvent

_encoder = msgspec.json.Encoder()
_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_jobs: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)
_probations: msgspec.json.Decoder[ProbationJob] = msgspec.json.Decoder(ProbationJob)


def encode(message: Job | ProbationJob | Event) -> bytes:
    """One line of JSON, newline not included."""
    return _encoder.encode(message)


def decode_event(line: bytes) -> Event:
    """Read one line of a trainer.

    Raises:
        DocumentError: the line is not an event.
    """
    return decode(line, _events)


def read_job(path: Path) -> Job:
    """Read a job file.

    Raises:
        OSError: it is not there.
        DocumentError: it is not a job.
    """
    return decode(path.read_bytes(), _jobs)


def read_probation_job(path: Path) -> ProbationJob:
    """Read the work order for the evaluation of a version on probation.

    Raises:
        OSError: it is not there.
        DocumentError: it is none.
    """
    return decode(path.read_bytes(), _probations)


#: Folder in a round's own for links to the files that it reads.
LINKS = "files"
#: Content of the mark beside a saved state where there is none: the round goes on from its beginning.
NO_STEPS = b"0"
