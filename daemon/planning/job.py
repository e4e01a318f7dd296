"""Builds the trainer's job from a plan: its steps, its slimming target and its files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.planning import anchors
from dance_ondevice.daemon.planning.scope import WHOLE, Scope
from dance_ondevice.daemon.system.cores import usable
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import base, engine_graph
from dance_ondevice.daemon.versions.condition_file import CONDITIONS_FILE
from dance_ondevice.models.card import CheckpointError, read_card
from dance_ondevice.policies.rounds import network_slimming, pace
from dance_ondevice.policies.rounds.rehearsal import is_anchor
from dance_ondevice.policies.rounds.start import RoundPlan

#: A round takes at least this many optimiser steps: fewer do not move a model.
MIN_STEPS = 40
#: Of fractions that are differences of others.
_ROUNDING = 1e-9


def new_id(paths: StatePaths, now: float, taken: Container[str] = ()) -> str:
    """A round's id: the UTC second of its start and a number that makes it unique.

    A board without a clock starts at the same second each time.

    Args:
        paths: Paths of the state folder, whose folders of rounds are checked.
        now: Wall-clock seconds.
        taken: Ids of recorded rounds, whose folders may be gone.
    """
    stem = datetime.fromtimestamp(now, timezone.utc).strftime("%Y%m%dT%H%M%S")
    number = 1
    while (paths.rounds / f"{stem}-{number}").exists() or f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def slim_target(config: Config, card: Mapping[str, Any], past: Sequence[Mapping[str, Any]]) -> int | None:
    """MACs that the candidate is to have, or None when this round does not slim.

    Args:
        config: The whole configuration.
        card: Card of the live model.
        past: Rows of finished rounds, oldest first.
    """
    settings = config.network_slimming
    whole = card.get("unslimmed_macs") or card.get("macs")
    if not settings.enabled or not whole or base.is_untrained(card):
        return None
    if settings.enabled == "auto" and card.get("class_map"):
        return None
    current = card["macs"] / whole
    steps = [
        network_slimming.PastStep(
            fraction_before=row["macs_before"] / whole,
            fraction_after=row["macs_after"] / whole,
            outcome=row["outcome"],
        )
        for row in past
        if row["macs_before"] and row["macs_after"]
    ]
    rules = network_slimming.SlimRules(target_macs_fraction=settings.target_macs_fraction, step=settings.step)
    fraction = network_slimming.next_fraction(rules, current, steps)
    # A step of less than a hundredth, the smallest that may be configured, is rounding and not slimming.
    return int(fraction * whole) if fraction <= current * 0.99 + _ROUNDING else None


def build(
    config: Config,
    folder: Path,
    *,
    live: Path,
    frozen: Path,
    samples: Callable[[Sequence[str]], tuple[jobs.JobSample, ...]],
    plan: RoundPlan,
    steps: int,
    learning_rate: float,
    scales: Mapping[str, float],
    target_macs: int | None,
    seed: int,
    scope: Scope = WHOLE,
) -> jobs.Job:
    """Build the job of one round; every path in it is absolute.

    The live version's file of conditions is copied into the round's folder, because the one beside the
    version may change while the round runs.

    Args:
        config: The whole configuration.
        folder: The round's folder, whose name is the round's id.
        live: Folder of the model to start from.
        frozen: Folder of the first model.
        samples: Looks up the files of sample ids.
        plan: The samples of the round by role.
        steps: Number of optimiser steps.
        learning_rate: The highest learning rate of the schedule.
        scales: Factor by which an image is resized for training, by id; images that are not listed keep their
            size, and held-out samples are judged as they are stored.
        target_macs: The result of ``slim_target``.
        seed: Seed of everything random in the round.
        scope: The scope of the round.
    """
    training = config.training
    folder = folder.resolve()

    def resized(ids: Sequence[str]) -> tuple[jobs.JobSample, ...]:
        stored = samples([each for each in ids if is_anchor(each) is None])
        # The cache lies beside the folders of rounds, so that each label is rewritten only once.
        base = anchors.job_samples(training.anchors, ids, folder.parent / "anchors")
        return tuple(msgspec.structs.replace(s, scale=scales.get(s.id, 1.0)) for s in (*stored, *base))

    return jobs.Job(
        round=folder.name,
        live=str(live.resolve()),
        frozen=str(frozen.resolve()),
        out=str(folder / "candidate"),
        checkpoint=str(folder / "checkpoint"),
        n_classes=len(config.model.classes),
        train=resized(plan.train),
        rehearsal=resized(plan.rehearsal),
        gate=samples(plan.gate),
        target_macs=target_macs if scope.slims else None,
        size=counted_at(config, live),
        steps=steps,
        batch_size=training.batch_size,
        learning_rate=learning_rate,
        precision=training.precision,
        precision_cache=str(folder.parent / "precision.json"),
        threads=usable(training.threads),
        seed=seed,
        looks=pace.evaluation_steps(steps) if training.early_stopping and not plan.by_teacher else (),
        by_teacher=plan.by_teacher,
        min_gain=config.promotion.min_gain,
        confidence=config.promotion.confidence,
        distillation=training.distillation if scope.distils else 0.0,
        max_condition_drop=config.promotion.max_condition_drop if scope.kind != "fleet" else None,
        max_class_drop=config.promotion.max_class_drop,
        kind=scope.kind,
        condition=scope.condition,
        note=scope.note,
        conditions=_own_copy(live / CONDITIONS_FILE, folder) if config.conditions.enabled else "",
        graph=_wants_graph(config),
        device=training.device,
    )


def counted_at(config: Config, live: Path) -> tuple[int, int]:
    """The (height, width) at which the MACs of the live model and its candidates are counted.

    A base model brings its own size: compared with MACs at another size, a slimming step would be a different
    one.
    """
    try:
        return read_card(live).macs_at
    except CheckpointError:  # reported where the model is loaded
        width, height = config.model.size
        return height, width


def _wants_graph(config: Config) -> bool:
    """Whether the daemon may serve the candidate with another engine than torch."""
    return config.inference.enabled and engine_graph.any_engine(config.inference.serves_by)


def _own_copy(file: Path, folder: Path) -> str:
    """Copy a file into the round's folder; returns the copy's path, "" when there is no such file."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return str(shutil.copyfile(file, folder / file.name))
    except FileNotFoundError:
        return ""
