"""Prepares a round that judges a release of the fleet: opens its record and writes the trainer's job."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.process import write_job
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import parse_duration
from dance_ondevice.daemon.planning import fit as round_plan
from dance_ondevice.daemon.planning import job as round_job
from dance_ondevice.daemon.planning.scope import FLEET
from dance_ondevice.daemon.rounds.context import RoundContext
from dance_ondevice.daemon.rounds.fleet.box import FleetPart
from dance_ondevice.daemon.rounds.prepare import RoundPart, open_record, with_blocks
from dance_ondevice.daemon.rounds.probation import comparison_joules
from dance_ondevice.daemon.rounds.training import RoundClock
from dance_ondevice.daemon.versions.versions import Live
from dance_ondevice.daemon.wire.fleet_messages import Release
from dance_ondevice.fleet.candidates import candidate, fleet_numbers
from dance_ondevice.fleet.releases import decode_release
from dance_ondevice.fleet.root import Root
from dance_ondevice.fleet.versions import read_arrays, with_values
from dance_ondevice.policies.rounds import shrinking
from dance_ondevice.policies.rounds.start import RoundPlan

__all__ = ["IMAGES", "gather", "prepare"]

log = logging.getLogger(__name__)

#: Images that statistics are estimated from.
IMAGES = 32


def gather(root: Root, release: Path, sha256: str, live: Path, out: Path, *, share: float = 1.0) -> None:
    """Write the live model with the values of a release in the places of its channels.

    Args:
        root: Description of the root.
        release: The release's file.
        sha256: Its SHA-256.
        live: Folder of the live model.
        out: Folder to write.
        share: How far to go from the model's own values to the release's.

    Raises:
        ReleaseError: The release is damaged.
        CheckpointError: The live model cannot be read, or its channel numbers are not known.
        PlacementError: It is none of this root.
        OSError: The disk is full or fails.
    """
    card, own, numbers = read_arrays(live)
    version = decode_release(release.read_bytes(), root, sha256)
    values = candidate(root, version, own, fleet_numbers(root, card.classes, numbers), share=share)
    # Only what travels: counters and statistics keep their own types.
    with_values(live, out, {name: value for name, value in values.items() if name in version}, card)


def prepare(
    context: RoundContext,
    part: FleetPart,
    release: Release,
    *,
    config: Config,
    live: Live,
    gate: Sequence[jobs.JobSample],
    images: Sequence[jobs.JobSample],
    share: float,
) -> RoundPart | str:
    """Prepare a round; returns a text that says why when there are no joules for it.

    Args:
        context: The context of all rounds.
        part: The board's part in the fleet, which has the release's file.
        release: The release.
        config: The whole configuration.
        live: The live version.
        gate: Held-out samples to judge it by.
        images: Samples to estimate statistics from.
        share: How far to go from the live model's values to the release's.

    Raises:
        CheckpointError, PlacementError, ReleaseError: The release does not fit this board's model.
        OSError: The disk is full or fails.
    """
    c, training = context, config.training
    joules = comparison_joules(config, 2 * len(gate) + len(images))
    allowance = c.budget.ask(joules)
    if not allowance.allowed:
        return allowance.reason
    directory = c.versions.directory(live.pointer.version)
    on_record = c.store.submit(lambda db: {row[0] for row in db.execute("select id from rounds")}).result()
    round_id = round_job.new_id(c.paths, c.now(), on_record)
    folder = c.paths.rounds / round_id
    size = shrinking.RoundSize(training.batch_size, 1.0)
    most = parse_duration(training.max_round_duration)
    plan = RoundPlan(train=(), rehearsal=(), gate=tuple(s.id for s in gate), reason="")
    row = {
        "id": round_id,
        "started_at": c.now(),
        "max_seconds": most,
        "trigger": "fleet",
        "reason": f"version {release.number} of the fleet",
        "parent": live.pointer.version,
        "seed": training.seed,
        "macs_before": live.card.get("macs"),
        "batch_size": size.batch_size,
        "image_scale": size.scale,
        "expected_joules": joules,
        "fleet_release": release.sha256,
    }
    gathered = folder.resolve() / "gathered"
    try:
        file = part.box.release(release.sha256)
        gather(part.root, file, release.sha256, directory, gathered, share=share)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    with open_record(c, row, plan):
        job = round_job.build(
            config,
            folder,
            live=directory,
            frozen=c.versions.directory(live.pointer.frozen),
            samples=lambda _: tuple(gate),
            plan=RoundPlan(train=(), rehearsal=(), gate=plan.gate, reason=""),
            steps=0,
            learning_rate=0.0,
            scales={},
            target_macs=None,
            seed=training.seed,
            scope=replace(FLEET, note=_note(release, share)),
        )
        job = msgspec.structs.replace(
            job,
            train=(),
            rehearsal=tuple(images),
            looks=(),
            gathered=str(gathered),
            release=release.sha256,
        )
        job_file = write_job(folder, with_blocks(c, job, config))
    log.info("fleet round started round=%s version=%d gate=%d", round_id, release.number, len(gate))
    return RoundPart(
        config=config,
        job=job,
        job_file=job_file,
        joules=allowance.joules,
        forecast=round_plan.Forecast(gain=None, joules=joules, step_joules=0.0),
        size=size,
        clock=RoundClock(c.store, c.monotonic, round_id, most=most),
    )


def _note(release: Release, share: float) -> str:
    """What a round changes, for the candidate's certificate."""
    values = f"values of version {release.number} of the fleet"
    if share < 1:
        values = f"{share:.0%} of the way from its own values to the {values}".replace("%", " %")
    return f"{values}, no training"
