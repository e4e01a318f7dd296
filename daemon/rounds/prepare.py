"""Prepares a round: plans it from the labelled samples, opens its record and writes the trainer's job."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.counts import block_numbers
from dance_ondevice.daemon.children.process import write_job
from dance_ondevice.daemon.children.watcher import memory_limit
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.planning import fit as round_plan
from dance_ondevice.daemon.planning import job as round_job
from dance_ondevice.daemon.planning import pace as round_pace
from dance_ondevice.daemon.planning.scale_samples import scale_fit
from dance_ondevice.daemon.planning.scope import comparable
from dance_ondevice.daemon.planning.scope import plan as plan_samples
from dance_ondevice.daemon.rounds import closing as round_close
from dance_ondevice.daemon.rounds import record as round_record
from dance_ondevice.daemon.rounds import teaching_record
from dance_ondevice.daemon.rounds.context import RoundContext
from dance_ondevice.daemon.rounds.training import RoundClock
from dance_ondevice.daemon.store.quota import GONE
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.daemon.versions.versions import Pointer
from dance_ondevice.policies.rounds import shrinking
from dance_ondevice.policies.rounds.start import RoundPlan
from dance_ondevice.policies.samples.splits import SampleInfo

__all__ = ["RoundPart", "open_record", "prepare", "with_blocks"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RoundPart:
    """The part of a round that runs between two starts of the daemon; usually that is the whole round.

    Attributes:
        config: The whole configuration, read once.
        job: The trainer's job.
        job_file: The path of the job's file.
        joules: The gross joules that this part may spend.
        forecast: The gain and the cost that were expected of the round.
        size: The batch size and image scale that the trainer begins with.
        clock: The clock that counts the round's seconds.
    """

    config: Config
    job: jobs.Job
    job_file: Path
    joules: float
    forecast: round_plan.Forecast
    size: shrinking.RoundSize
    clock: RoundClock


def prepare(
    context: RoundContext,
    samples: Sequence[SampleInfo],
    *,
    config: Config,
    trigger: str,
    reason: str,
) -> RoundPart | str:
    """Plan a round, open its record and write its job; returns a text that says why when no round can start.

    Args:
        context: The context of all rounds.
        samples: All labelled samples, with their splits.
        config: The whole configuration; the context's own may be replaced at any time.
        trigger: What asked for the round.
        reason: Why it may start, in words.

    Raises:
        Exception: Any error that keeps the job from being written; the record is closed first.
    """
    c = context
    training = config.training
    samples = _of_present_cameras(c, samples)
    seed = training.seed + c.store.submit(lambda db: db["rounds"].count).result()
    share = c.store.submit(lambda db: round_plan.rehearsal_share(db, training.rehearsal_share)).result()

    def ensured() -> Pointer:
        return first_model.ensure(config, c.config_file, c.paths, c.versions)

    judge = teaching_record.may_judge(c.paths, config, c.versions)
    planned = plan_samples(
        config,
        samples,
        lambda: c.versions.directory(ensured().version),
        rehearsal_share=share,
        seed=seed,
        teacher_judges=judge.may_judge,
    )
    if isinstance(planned, str):
        return planned
    plan, scope, pointer = planned.samples, planned.scope, ensured()
    card = c.versions.card(pointer.version)
    past = c.store.submit(round_record.finished_rounds).result()
    alike = comparable(past, scope)
    fitted = round_plan.fit(
        config,
        c.budget,
        plan,
        known=c.store.submit(lambda db: round_plan.stored(db, plan)).result(),
        macs=card.get("macs") or 0,
        past=alike,
        forced=trigger == "requested",
        # Anchors belong to the base domain, so the round of one condition rehearses none.
        rehearsal_share=share if scope.takes_anchors else 0.0,
        meter=c.energy.snapshot().meter,
    )
    if isinstance(fitted, str):
        return fitted

    speed = round_pace.next_pace(alike)
    steps = max(min(round_job.MIN_STEPS, fitted.steps), int(fitted.steps * speed.steps))
    on_record = c.store.submit(lambda db: {row[0] for row in db.execute("select id from rounds")}).result()
    round_id = round_job.new_id(c.paths, c.now(), on_record)
    most_seconds = parse_duration(training.max_round_duration)
    folder = c.paths.rounds / round_id
    size = round_pace.first_size(training.batch_size, past, memory_limit(c.procfs))
    row = {
        "id": round_id,
        "started_at": c.now(),
        "max_seconds": most_seconds,
        "trigger": trigger,
        "reason": "; ".join(
            filter(
                None,
                (
                    *(reason, planned.reason, fitted.reason, speed.reason),
                    f"the teacher's labels judge it: {judge.why}" if plan.by_teacher else "",
                ),
            )
        ),
        "parent": pointer.version,
        "condition": scope.condition,
        "seed": seed,
        "macs_before": card.get("macs"),
        "pace": round_pace.encode(speed),
        "batch_size": size.batch_size,
        "image_scale": size.scale,
        **fitted.expectations,
    }
    # From here on the samples stay, so that the trainer finds what is looked up.
    with open_record(c, row, fitted.plan):
        job = round_job.build(
            config,
            folder,
            live=c.versions.directory(pointer.version),
            frozen=c.versions.directory(pointer.frozen),
            samples=lambda ids: c.store.submit(
                lambda db: round_record.job_samples(db, ids, c.paths.root.resolve())
            ).result(),
            plan=fitted.plan,
            steps=steps,
            learning_rate=training.learning_rate * speed.rate,
            scales=fitted.scales,
            target_macs=round_job.slim_target(config, card, past),
            seed=seed,
            scope=scope,
        )
        fit = c.store.submit(lambda db: scale_fit(db, config, c.paths.root.resolve())).result()
        job = msgspec.structs.replace(with_blocks(c, job, config), scale_fit=fit)
        job = round_pace.resized(job, size)
        job_file = write_job(folder, job)
    log.info(
        "round started round=%s for=%s reason=%s new=%d rehearsal=%d gate=%d steps=%d joules=%.0f",
        round_id, scope.condition or "all", reason,
        len(job.train), len(job.rehearsal), len(job.gate), job.steps, fitted.allowance,
    )  # fmt: skip
    return RoundPart(
        config=config,
        job=job,
        job_file=job_file,
        joules=fitted.allowance,
        forecast=fitted.forecast,
        size=size,
        clock=RoundClock(c.store, c.monotonic, round_id, most=most_seconds),
    )


@contextlib.contextmanager
def open_record(context: RoundContext, row: Mapping[str, Any], plan: RoundPlan) -> Iterator[None]:
    """Open a round's record, which keeps its samples from eviction; an error within closes it as failed."""
    context.store.submit(lambda db: round_record.open_round(db, row, plan)).result()
    try:
        yield
    except Exception as error:  # any error: the record must not stay open; the caller reports it
        round_close.close(context, row["id"], "failed", (f"not prepared: {error}",), {})
        raise


def _of_present_cameras(context: RoundContext, samples: Sequence[SampleInfo]) -> Sequence[SampleInfo]:
    """Leave out what was held out of cameras that are gone, as long as anything else judges."""
    gone = context.store.submit(lambda db: {row[0] for row in db.execute(GONE)}).result()
    present = [s for s in samples if s.split != "gate" or s.camera not in gone]
    return present if any(s.split == "gate" for s in present) else samples


def with_blocks(context: RoundContext, job: jobs.Job, config: Config) -> jobs.Job:
    """Give the trainer the block of time of each held-out sample."""
    ids = [s.id for s in job.gate]
    origins = context.store.submit(lambda db: round_record.origins(db, ids)).result()
    captures = {i: origin.capture for i, origin in origins.items()}
    block = parse_duration(config.training.gate_block)
    return msgspec.structs.replace(job, gate_blocks=block_numbers(ids, captures, block))
