"""The trainer process: one job in, events out, a candidate model on disk.

Runs as ``python -m dance_ondevice.daemon.trainer_main rounds/<id>/job.json PARENT_PID``. It takes only what
ingest and inference leave (SCHED_IDLE, nice 19), is the first to go when memory is short, and dies with its
parent. SIGTERM saves the state and leaves; the parent decides everything else.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import platform
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import msgspec
import numpy as np
import torch

from dance_ondevice import slimming
from dance_ondevice.daemon import job as jobs
from dance_ondevice.daemon.state import atomic_write
from dance_ondevice.evaluation import evaluate, iou_per_class, miou
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.cost import count_macs, count_parameters
from dance_ondevice.models.forward import Normalisation
from dance_ondevice.training import Precision, Trainer, TrainingOptions, TrainingSample, measure_precision

PR_SET_PDEATHSIG = 1


class Leave(Exception):  # noqa: N818 - a request, not an error
    """SIGTERM arrived."""


def main(arguments: Sequence[str]) -> int:
    """Run the job; returns the process's exit status."""
    _be_humble(parent=int(arguments[1]))
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever a library prints must not look like an event.
    os.dup2(2, 1)
    asked_to_leave: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked_to_leave.append(number))
    job = jobs.read_job(Path(arguments[0]))
    try:
        _run(job, events, asked_to_leave)
    except Leave:
        return 0
    except Exception as error:  # every failure must reach the round's record, whatever its kind
        _emit(events, jobs.Failed(error=f"{type(error).__name__}: {error}"))
        raise
    return 0


def _run(job: jobs.Job, events: TextIO, asked_to_leave: list[int]) -> None:
    if job.threads > 0:
        torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    random.seed(job.seed)
    np.random.seed(job.seed % 2**32)
    _emit(events, jobs.Started(pid=os.getpid()))

    live, card = checkpoint.load(Path(job.live))
    gate = [_sample(s) for s in job.gate]
    live_scores = _score(live, gate, card.normalisation, job.n_classes)
    _emit(events, jobs.Evaluated(model="live", scores=live_scores))
    if Path(job.frozen) != Path(job.live):
        frozen, frozen_card = checkpoint.load(Path(job.frozen))
        frozen_scores = _score(frozen, gate, frozen_card.normalisation, job.n_classes)
        del frozen
    else:
        frozen_scores = live_scores
    _emit(events, jobs.Evaluated(model="frozen", scores=frozen_scores))
    if asked_to_leave:
        _leave(events, 0)

    candidate = live
    if job.target_macs is not None:
        _emit(events, _slim(candidate, job.target_macs, job.size))
    options = TrainingOptions(
        steps=job.steps,
        batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        precision=_precision(job, candidate),
        augment=True,
        num_classes=job.n_classes,
        seed=job.seed,
    )
    trainer = Trainer(candidate, [_sample(s) for s in job.train + job.rehearsal], options, card.normalisation)
    saved = Path(job.checkpoint)
    if (saved / "complete").exists():
        trainer.load_state(saved)
    training_macs = 0
    for report in trainer:
        training_macs = report.macs
        _emit(
            events,
            jobs.Stepped(step=report.step, steps=report.steps, loss=report.loss, macs=report.macs),
        )
        if asked_to_leave and report.step < report.steps:
            saved.mkdir(parents=True, exist_ok=True)
            (saved / "complete").unlink(missing_ok=True)
            trainer.save_state(saved)
            atomic_write(saved / "complete", b"")
            _leave(events, report.step)

    candidate.eval()
    scores = _score(candidate, gate, card.normalisation, job.n_classes)
    done = jobs.Done(
        macs=count_macs(candidate, *job.size),
        parameters=count_parameters(candidate),
        training_macs=training_macs,
        precision=options.precision,
    )
    _save(job, candidate, card, done)
    _emit(events, jobs.Evaluated(model="candidate", scores=scores))
    _emit(events, done)


def _slim(model: torch.nn.Module, target_macs: int, size: tuple[int, int]) -> jobs.Slimmed:
    try:
        report = slimming.slim(model, target_macs=target_macs, size=size)
    except slimming.NotPrunable as error:
        macs, parameters = count_macs(model, *size), count_parameters(model)
        return jobs.Slimmed(
            macs_before=macs,
            macs_after=macs,
            parameters_before=parameters,
            parameters_after=parameters,
            note=f"trained unslimmed: {error}",
        )
    return jobs.Slimmed(
        macs_before=report.macs_before,
        macs_after=report.macs_after,
        parameters_before=report.parameters_before,
        parameters_after=report.parameters_after,
    )


def _score(
    model: torch.nn.Module, gate: list[TrainingSample], normalisation: Normalisation, n_classes: int
) -> jobs.ScoreCard:
    matrix = evaluate(model, gate, normalisation, n_classes)
    return jobs.ScoreCard(
        miou=miou(matrix),
        iou_per_class=iou_per_class(matrix),
        pixels_per_class=tuple(int(n) for n in matrix.sum(axis=1)),
        samples=len(gate),
    )


def _precision(job: jobs.Job, model: torch.nn.Module) -> Precision:
    """``auto`` is measured once on a board and kept beside the rounds."""
    if job.precision != "auto":
        return job.precision
    cache = Path(job.precision_cache)
    key = f"{platform.machine()} torch-{torch.__version__} threads-{torch.get_num_threads()}"
    try:
        remembered = json.loads(cache.read_bytes())
        if remembered.get("key") == key:
            found: Precision = msgspec.convert(remembered.get("precision"), Precision)
            return found
    except (OSError, ValueError, AttributeError):  # msgspec's error is a ValueError
        pass  # not measured yet, or garbage: measure
    precision = measure_precision(model, job.size, min(job.batch_size, 4))
    atomic_write(cache, json.dumps({"key": key, "precision": precision}).encode())
    return precision


def _save(job: jobs.Job, model: torch.nn.Module, parent: ModelCard, done: jobs.Done) -> None:
    card = dataclasses.replace(
        parent,
        version=job.round,
        parent=parent.version,
        macs=done.macs,
        parameters=done.parameters,
        training={
            "round": job.round,
            "seed": job.seed,
            "steps": job.steps,
            "batch_size": job.batch_size,
            "learning_rate": job.learning_rate,
            "precision": done.precision,
            "training_macs": done.training_macs,
            "new_samples": len(job.train),
            "rehearsal_samples": len(job.rehearsal),
        },
        gate={},
    )
    checkpoint.save(Path(job.out), model, card)


def _sample(sample: jobs.JobSample) -> TrainingSample:
    return TrainingSample(
        image=Path(sample.image), label=Path(sample.label), weight=sample.weight, scale=sample.scale
    )


def _emit(events: TextIO, event: jobs.Event) -> None:
    events.write(jobs.encode(event).decode() + "\n")
    events.flush()


def _leave(events: TextIO, step: int) -> None:
    _emit(events, jobs.Stopped(step=step))
    raise Leave


def _be_humble(*, parent: int) -> None:
    """Lowest scheduling class, first in line for the out-of-memory killer, gone when the parent is."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)  # the parent died before the line above took hold
    # Each of these may be forbidden in a container; the round then merely runs at the usual priority.
    with contextlib.suppress(OSError):
        os.nice(19)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
