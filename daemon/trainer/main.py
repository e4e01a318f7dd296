"""The trainer process: reads one job, reports events, and writes a candidate model to disk.

Runs as ``python -m dance_ondevice.daemon.trainer.main rounds/<id>/job.json PARENT_PID``. It runs at the
lowest priority (SCHED_IDLE, nice 19), is killed first when memory is short, and dies with its parent. At
SIGTERM it leaves: in an optimiser step after the step, whose state it saves, anywhere else at once. The state
is also saved at intervals, in case the parent dies or cannot wait for the step. The parent decides everything
else.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import platform
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import msgspec
import numpy as np
import torch

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.child import emit, lower_priority, open_events, out_of_memory
from dance_ondevice.daemon.children.counts import Counts, ScoreCard, counts_file, write_counts
from dance_ondevice.daemon.trainer.curve import Curve, Gate
from dance_ondevice.daemon.trainer.holding import held
from dance_ondevice.daemon.trainer.interrupts import Leave, ParentRequests, Saved
from dance_ondevice.daemon.trainer.kinds import KINDS, RoundKind
from dance_ondevice.daemon.trainer.scale_fit import with_scale_loss
from dance_ondevice.daemon.trainer.scores import costs_too_much, kept_scores, score, time_masks
from dance_ondevice.daemon.trainer.serving import Kept, Serving, judged, kept
from dance_ondevice.daemon.trainer.sift import sample_of, sift
from dance_ondevice.daemon.trainer.slimming import slim_candidate
from dance_ondevice.documents import decode
from dance_ondevice.files import write_durably
from dance_ondevice.fleet.lineage import after_round
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import CheckpointError, ModelCard
from dance_ondevice.models.cost import count_macs, count_parameters
from dance_ondevice.runtime import devices
from dance_ondevice.runtime.comparing import prepare
from dance_ondevice.runtime.heap import keep_freed
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.precision import Precision, measure_precision
from dance_ondevice.training.state import StateError
from dance_ondevice.training.trainer import StepReport, Trainer, TrainingOptions


def main(arguments: Sequence[str]) -> int:
    """Run the job; returns the process's exit status."""
    lower_priority(parent=int(arguments[1]), background="normal" not in arguments[2:])
    keep_freed()
    events = open_events()
    requests = ParentRequests(at_once=True)
    job = jobs.read_job(Path(arguments[0]))
    saved = Saved(Path(job.checkpoint))
    try:
        requests.listen()
        _run(job, events, requests, saved)
    except Leave:
        emit(events, jobs.Stopped(step=saved.step))
        return 0
    except Exception as error:  # any error must reach the round's record
        emit(events, jobs.Failed(error=f"{type(error).__name__}: {error}", memory=out_of_memory(error)))
        raise
    return 0


def _run(job: jobs.Job, events: TextIO, requests: ParentRequests, saved: Saved) -> None:
    _set_up(job)
    emit(events, jobs.Started(pid=os.getpid()))

    job = sift(job, lambda event: emit(events, event))
    candidate, card = checkpoint.load(Path(job.live))
    gate = [(s.id, sample_of(s)) for s in job.gate]
    condition_of = {s.id: s.condition for s in job.gate}
    live_kept = kept(Path(job.conditions), candidate) if job.conditions else Kept()
    serves = Serving(live_kept.sets, live_kept.known)

    def judge(model: torch.nn.Module, some: Gate, serving: Serving) -> tuple[ScoreCard, tuple[Counts, ...]]:
        return judged(
            model, some, card.normalisation, job.n_classes, serving=serving, condition_of=condition_of
        )

    evaluated, live_counts = _scored_once("live", job, gate, lambda: judge(candidate, gate, serves))
    emit(events, evaluated)
    # A round of a fleet spends its joules on the comparison with the live model alone.
    if job.kind_of != "fleet":
        _score_frozen(job, events, gate, live=None if live_kept.sets else evaluated)

    kind = KINDS[job.kind_of](job, live_kept, candidate, card)

    def evaluate(model: torch.nn.Module, some: Gate, share: float) -> tuple[Counts, ...]:
        model = kind.candidate(_on_cpu(model), share)
        serving = kind.serving(model, share, {condition_of[identifier] for identifier, _ in some})
        return judge(model, some, serving)[1]

    def report(event: jobs.Event) -> None:
        if not job.by_teacher:  # a curve of mIoU would be taken for accuracy
            emit(events, event)

    curve = Curve(job, gate, live_counts, evaluate, report, shares=kind.shares)
    if job.target_macs is not None:
        learnt_from = [sample_of(s) for s in job.train + job.rehearsal]
        emit(events, slim_candidate(candidate, job, learnt_from, card.normalisation, kind.companions))
    chosen = devices.choose(job.device if job.steps else "cpu")
    trained = _Trained()
    if job.steps:
        emit(events, jobs.OnDevice(chosen.name, chosen.reason))
        curve.begin(candidate, changed=job.target_macs is not None or not kind.starts_as_live)
        with kind.learning(candidate), devices.on_device(chosen.name, candidate):
            trainer = _trainer(job, kind, candidate, card, chosen.name)
            training = _train(job, trainer, curve, events=events, requests=requests, saved=saved)
        if training is None:
            return
        trained = _Trained(training.step, training.macs, training.options.precision)

    made = _made(
        kind,
        candidate,
        judge=lambda model, serving: judge(model, gate, serving),
        costs_too_much=lambda counts: costs_too_much(job, live_counts, counts),
    )
    candidate = made.model
    write_counts(counts_file(Path(job.out).parent, "candidate"), made.counts)
    if job.steps:
        curve.end(trained.steps, made.first)
    kind.settle(candidate)
    live, _ = checkpoint.load(Path(job.live))
    emit(events, time_masks(live, candidate, gate[0][1], card.normalisation))
    done = jobs.Done(
        macs=count_macs(candidate, *job.size),
        parameters=count_parameters(candidate),
        training_macs=trained.macs,
        precision=trained.precision,
        steps=trained.steps,
        share=made.share,
    )
    card = with_scale_loss(card, candidate, job, made.serving)
    _save(job, candidate, card, done, {"device": chosen.name, **kind.card_fields(made.serving)})
    kind.write(made.serving, Path(job.out))
    if job.graph:
        _prepare_engines(job)
    emit(events, jobs.Evaluated(model="candidate", scores=made.scores))
    emit(events, done)


def _set_up(job: jobs.Job) -> None:
    if job.threads > 0:
        torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    random.seed(job.seed)
    np.random.seed(job.seed % 2**32)


@dataclass(frozen=True)
class _Trained:
    """What training has come to; nothing, where a round takes no step."""

    steps: int = 0
    macs: int = 0
    precision: Precision = "fp32"


@dataclass(frozen=True, eq=False, kw_only=True)
class _Made:
    """A candidate: how far it goes, what it would be served with, and what the gate counted.

    ``first`` are the counts of the first candidate that was tried, of which the curve is.
    """

    model: torch.nn.Module
    share: float
    serving: Serving
    scores: ScoreCard
    counts: tuple[Counts, ...]
    first: tuple[Counts, ...]


def _made(
    kind: RoundKind,
    trained: torch.nn.Module,
    *,
    judge: Callable[[torch.nn.Module, Serving], tuple[ScoreCard, tuple[Counts, ...]]],
    costs_too_much: Callable[[tuple[Counts, ...]], bool],
) -> _Made:
    """Make the candidate of a trained model: the first that does not cost too much, else the last."""
    tried: list[tuple[Counts, ...]] = []
    for share in kind.shares:
        model = kind.candidate(trained, share).eval()
        serving = kind.serving(model, share)
        scores, counts = judge(model, serving)
        tried.append(counts)
        if not costs_too_much(counts):
            break
    return _Made(model=model, share=share, serving=serving, scores=scores, counts=counts, first=tried[0])


def _train(
    job: jobs.Job,
    trainer: Trainer,
    curve: Curve,
    *,
    events: TextIO,
    requests: ParentRequests,
    saved: Saved,
) -> Trainer | None:
    """Train until the last step, or until promotion is out of reach; None when there is nothing to judge.

    Raises:
        Leave: The parent asked the trainer to leave; the state is saved.
    """
    try:
        saved.load(trainer)
    except StateError as error:  # damaged, or a sample of it cannot be read any more
        print(f"the round begins anew: {error}", file=sys.stderr)
    steps = iter(trainer)
    while True:
        with requests.later():
            report = next(steps, None)
            if report is not None:
                emit(events, _stepped(report))
            evaluates = report is not None and report.step in job.looks
            # Saved also before an evaluation and before the final judging, since SIGTERM may end those at any
            # point.
            if requests.leave or evaluates or report is None or requests.finish or saved.due:
                saved.write(trainer)
        if report is None or requests.finish:
            break
        if evaluates and (hopeless := curve.hopeless(trainer.model, report.step)):
            emit(events, jobs.GaveUp(report.step, hopeless))
            return None
    if not trainer.samples_seen:
        samples = len(job.train) + len(job.rehearsal)
        emit(events, jobs.GaveUp(0, f"nothing to learn: none of the {samples} samples has a labelled pixel"))
        return None
    return trainer


def _stepped(report: StepReport) -> jobs.Stepped:
    return jobs.Stepped(step=report.step, steps=report.steps, loss=report.loss, macs=report.macs)


def _on_cpu(model: torch.nn.Module) -> torch.nn.Module:
    """The model, or a copy of one that trains elsewhere: it is judged on the CPU, like all others."""
    if next(model.parameters()).device.type == "cpu":
        return model
    return copy.deepcopy(model).to("cpu")


def _trainer(
    job: jobs.Job,
    kind: RoundKind,
    candidate: torch.nn.Module,
    card: ModelCard,
    device: Literal["cpu", "cuda"],
) -> Trainer:
    options = TrainingOptions(
        steps=job.steps,
        batch_size=job.batch_size,
        learning_rate=job.learning_rate,
        precision=_precision(job, candidate, device),
        augment=True,
        num_classes=job.n_classes,
        seed=job.seed,
    )
    samples = [sample_of(s) for s in job.train + job.rehearsal]
    return Trainer(
        candidate, samples, options, card.normalisation, distillation=held(job, kind, card, device)
    )


def _scored_once(
    name: Literal["live", "frozen"],
    job: jobs.Job,
    gate: Gate,
    judge: Callable[[], tuple[ScoreCard, tuple[Counts, ...]]],
) -> tuple[jobs.Evaluated, tuple[Counts, ...]]:
    """Score a model that the round does not change; a resumed round reuses the scores that it has."""
    file = counts_file(Path(job.out).parent, name)
    found = kept_scores(file, gate)
    if found is None:
        found = judge()
        write_counts(file, found[1])
    return jobs.Evaluated(model=name, scores=found[0]), found[1]


def _score_frozen(
    job: jobs.Job,
    events: TextIO,
    gate: list[tuple[str, TrainingSample]],
    *,
    live: jobs.Evaluated | None,
) -> None:
    """Score the first model, with its own statistics for every frame.

    The scores are only for comparison: when the model does not load, the round goes on without them.
    ``live`` has them where the first model is live still.
    """
    if live is not None and Path(job.frozen) == Path(job.live):
        emit(events, jobs.Evaluated(model="frozen", scores=live.scores))
        return
    try:
        frozen, card = checkpoint.load(Path(job.frozen))
    except CheckpointError as error:
        print(f"the first model is not scored: {error}", file=sys.stderr)
        return
    evaluated, _ = _scored_once(
        "frozen", job, gate, lambda: score(frozen, gate, card.normalisation, len(card.classes))
    )
    emit(events, evaluated)


def _precision(job: jobs.Job, model: torch.nn.Module, device: Literal["cpu", "cuda"]) -> Precision:
    """Resolve ``auto``: on a CPU measured once on a board and cached beside the rounds."""
    if job.precision != "auto":
        return job.precision
    if device == "cuda":
        return devices.lowered_precision()
    cache = Path(job.precision_cache)
    key = f"{platform.machine()} torch-{torch.__version__} threads-{torch.get_num_threads()}"
    try:
        remembered = decode(cache.read_bytes(), dict[str, Any])
        if remembered.get("key") == key:
            found: Precision = msgspec.convert(remembered.get("precision"), Precision)
            return found
    except (OSError, ValueError, AttributeError):  # msgspec's error is a ValueError
        pass  # not measured yet, or unreadable: measure
    precision = measure_precision(model, job.size, min(job.batch_size, 4))
    write_durably(cache, json.dumps({"key": key, "precision": precision}).encode())
    return precision


def _prepare_engines(job: jobs.Job) -> None:
    """Export the candidate's graph and compare the engines here, at the lowest priority."""
    try:
        prepare(Path(job.out), *checkpoint.load(Path(job.out)))
    except Exception as error:  # the model may be the user's own; the daemon then runs it in torch
        print(f"no graph for other engines than torch: {error}", file=sys.stderr)


def _save(
    job: jobs.Job,
    model: torch.nn.Module,
    parent: ModelCard,
    done: jobs.Done,
    round_fields: Mapping[str, object],
) -> None:
    card = dataclasses.replace(
        parent,
        version=job.round,
        parent=parent.version,
        macs=done.macs,
        parameters=done.parameters,
        training={
            "round": job.round,
            "seed": job.seed,
            "steps": done.steps,
            "batch_size": job.batch_size,
            "learning_rate": job.learning_rate,
            "precision": done.precision,
            "training_macs": done.training_macs,
            "distillation": job.distillation,
            "new_samples": len(job.train),
            "rehearsal_samples": len(job.rehearsal),
            **after_round(parent.training, len(job.train)),
            **({"interpolation": done.share} if done.share < 1 else {}),
            **round_fields,
        },
        gate={},
    )
    checkpoint.save(Path(job.out), model, card)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # Everything is written. Leaving the usual way unloads torch, which takes a board seconds.
    os._exit(status)
