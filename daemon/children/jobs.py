"""Messages between the daemon and its trainer process: one JSON job in, one JSON event a line out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import msgspec

from dance_ondevice.daemon.children.counts import Counts, ScoreCard
from dance_ondevice.daemon.children.estimation_jobs import Estimated
from dance_ondevice.daemon.children.teacher_jobs import TeacherEvent
from dance_ondevice.documents import DocumentError, decode

log = logging.getLogger(__name__)

#: The kinds of round; ``trainer/kinds.py`` has the code of each.
RoundKindName = Literal["whole", "condition", "fleet"]


class JobSample(msgspec.Struct, frozen=True, kw_only=True):
    """One stored sample: absolute paths, its weight in the loss, and the factor that it is resized by.

    ``condition`` is the condition in which the sample was captured, empty where it is not known.
    ``corrected`` says that a person made the label by correcting the live model's mask: what has no label
    there was seen and left as it was.
    """

    id: str
    image: str
    label: str
    weight: float = 1.0
    scale: float = 1.0
    condition: str = ""
    corrected: bool = False


class ScaleFit(msgspec.Struct, frozen=True, kw_only=True):
    """What the trainer learns the candidate's loss on smaller images from.

    Attributes:
        samples: Labelled samples that are stored at full size.
        groups: The group of each: samples of one light and time, which must not vouch for each other.
        scales: The scales below 1 that images are stored at.
    """

    samples: tuple[JobSample, ...]
    groups: tuple[int, ...]
    scales: tuple[float, ...]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """The job of one round, written to ``rounds/<id>/job.json``.

    Attributes:
        round: The round's id.
        live: Folder of the model to start from.
        frozen: Folder of the first model, which is scored for comparison.
        out: Folder that receives the candidate model.
        checkpoint: Folder for the state of an interrupted run; the run resumes from it when it is complete.
        n_classes: Number of classes.
        train, rehearsal: New and old samples to learn from.
        gate: Held-out samples, which are scored and never learnt from.
        target_macs: MACs at ``size`` that the candidate is slimmed to before training; None does not slim.
        size: Reference (height, width) for MACs.
        steps: Number of optimiser steps.
        precision: ``auto``, ``fp32`` or ``bf16``.
        precision_cache: File that stores the result that ``auto`` measured on this board.
        threads: Number of CPU threads.
        looks: Steps after which some of the gate is evaluated, for the round's curve.
        min_gain: The mIoU gain that promotion will ask for; a round that cannot reach it gives up early.
        confidence: Confidence of the bounds that decide about giving up, 0 to 1.
        gate_blocks: The time block of each gate sample.
        distillation: Weight of the loss that keeps the live model's answers on rehearsed samples; 0 turns it
            off.
        kind: The kind of round; "" in a job of an earlier build, see ``kind_of``.
        condition: The one condition that the round trains; None trains the shared weights of all conditions.
        note: What the round does not change, for the candidate's certificate.
        conditions: The round's own copy of the live version's file of conditions, so that a resumed round
            sees the same; empty when one set of statistics serves every frame.
        graph: Whether the candidate's graph for onnxruntime is written beside it, so that the daemon need
            not.
        scale_fit: What the loss on smaller images is learnt from; None if the round does not learn it.
        device: Where it trains: ``auto``, ``cpu`` or ``cuda``. It is judged on the CPU in any case.
        by_teacher: Whether a teacher labelled the gate: scores are then agreement with it, and no accuracy.
        gathered: In a round of kind "fleet", the folder of the live model with the values of a release of the
            fleet, or with values part of the way to them; ``rehearsal`` are then the samples that its
            statistics are estimated from.
        release: SHA-256 of that release.
        max_condition_drop: mIoU that a candidate may cost one condition before one half as far from the live
            model is tried, as it is where the candidate is below the live model in all; None tries none.
        max_class_drop: IoU that it may cost a class before that; None in a job of an earlier build.
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
    scale_fit: ScaleFit | None = None
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    by_teacher: bool = False
    gathered: str = ""
    release: str = ""
    max_condition_drop: float | None = None
    max_class_drop: float | None = None

    @property
    def kind_of(self) -> RoundKindName:
        """The kind of round; a job of an earlier build has only its condition to tell it by."""
        return self.kind or ("whole" if self.condition is None else "condition")

    @property
    def most_candidates(self) -> int:
        """How many candidates the trainer judges at most, see ``shares`` in ``trainer/kinds.py``."""
        return 1 if self.max_condition_drop is None or self.target_macs is not None else 2


class ProbationJob(msgspec.Struct, frozen=True, kw_only=True):
    """The job of evaluating a version on probation: two models over the same frames.

    Attributes:
        before: Folder of the version that was live before.
        live: Folder of the version on probation.
        samples: Frames that came since its promotion; ``label`` is empty where there is none.
        threads: Number of CPU threads.
        conditions: Whether each frame is segmented with the statistics of its condition.
        estimate: Samples that both models' statistics are estimated from first; none for models that have
            their own.
        device: Where the models run: ``auto``, ``cpu`` or ``cuda``.
    """

    before: str
    live: str
    n_classes: int
    samples: tuple[JobSample, ...]
    threads: int
    conditions: bool = False
    estimate: tuple[JobSample, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "cpu"


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The trainer has started."""

    pid: int


class OnDevice(msgspec.Struct, frozen=True, tag="on_device"):
    """Where the child computes; ``reason`` says why not on the GPU that was asked for or is there."""

    device: Literal["cpu", "cuda"]
    reason: str = ""


class Evaluated(msgspec.Struct, frozen=True, tag="evaluated"):
    """One of the three models was scored on the gate."""

    model: Literal["live", "frozen", "candidate"]
    scores: ScoreCard


class Slimmed(msgspec.Struct, frozen=True, tag="slimmed"):
    """The candidate lost channels; with a note, the text says why it could not."""

    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int
    note: str = ""


class Stepped(msgspec.Struct, frozen=True, tag="step"):
    """One optimiser step is done; ``macs`` is the training cost up to it."""

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
    """The round cannot reach promotion any more: nothing is saved."""

    step: int
    reason: str


class Timed(msgspec.Struct, frozen=True, kw_only=True, tag="timed"):
    """CPU time that one mask takes each model on the same frame, in milliseconds of one core."""

    live_ms: float
    candidate_ms: float


class Observed(msgspec.Struct, frozen=True, kw_only=True, tag="observed"):
    """One frame of the evaluation of a version on probation.

    Attributes:
        before, live: Counts where the frame has a label.
        confidence_before, confidence_live: Mean confidence over the pixels, 0 to 1.
        agreement: Share of pixels to which both give the same class, 0 to 1.
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
    """The candidate is on disk and scored; ``steps`` of the planned steps were done.

    ``share`` is how far it goes from what training began with (0) to what it came to (1).
    """

    macs: int
    parameters: int
    training_macs: int
    precision: str
    steps: int = 0
    share: float = 1.0


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    """The trainer left after SIGTERM: its state after ``step`` is saved, and the round can resume."""

    step: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The trainer failed: ``error`` goes into the round's record, ``memory`` says that memory was short."""

    error: str
    memory: bool = False


RoundEvent = (
    Started
    | OnDevice
    | Evaluated
    | Slimmed
    | Stepped
    | CurvePoint
    | GaveUp
    | Timed
    | Observed
    | Unreadable
    | Done
)
Event = RoundEvent | Stopped | Failed | TeacherEvent | Estimated

_encoder = msgspec.json.Encoder()
_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_jobs: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)
_probations: msgspec.json.Decoder[ProbationJob] = msgspec.json.Decoder(ProbationJob)


def encode(message: Job | ProbationJob | Event) -> bytes:
    """Encode a message as one line of JSON, without the newline."""
    return _encoder.encode(message)


def decode_event(line: bytes) -> Event:
    """Decode one line of a child's event stream.

    Raises:
        DocumentError: The line is not an event.
    """
    return decode(line, _events)


def read_job(path: Path) -> Job:
    """Read a job file.

    Raises:
        OSError: The file cannot be read.
        DocumentError: The file does not hold a job.
    """
    return decode(path.read_bytes(), _jobs)


class _Place(msgspec.Struct):
    checkpoint: str


def lies_where_it_was_written(folder: Path) -> bool:
    """Return whether a round's folder is where its job says; else the job names files of another state.

    A job that cannot be read says nothing, and counts as one that does.
    """
    try:
        checkpoint = decode((folder / "job.json").read_bytes(), _Place).checkpoint
    except (OSError, DocumentError):
        return True
    here = Path(checkpoint).resolve() == (folder / "checkpoint").resolve()
    if not here:
        log.warning("interrupted round does not go on: the state folder was moved folder=%s", folder)
    return here


def read_probation_job(path: Path) -> ProbationJob:
    """Read the job of evaluating a version on probation.

    Raises:
        OSError: The file cannot be read.
        DocumentError: The file does not hold such a job.
    """
    return decode(path.read_bytes(), _probations)


#: Folder inside a round's folder for links to the files that the round reads.
LINKS = "files"
#: Content of the file ``complete`` when no state was saved: the round then starts from its beginning.
NO_STEPS = b"0"
