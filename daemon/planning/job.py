"""From a plan to the trainer's work order: how many steps, how far to slim, which files."""

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
    """A round's id: the UTC second of its start and a number that no other round has.

    A board without a clock begins at the same second each time.

    Args:
        paths: whose folders of rounds are looked at.
        now: wall-clock seconds.
        taken: ids of rounds on record, whose folders may be gone.
    """
    stem = datetime.fromtimestamp(now, timezone.utc).strftime("%Y%m%dT%H%M%S")
    number = 1
    while (paths.rounds / f"{stem}-{number}").exists() or f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def slim_target(config: Config, card: Mapping[str, Any], past: Sequence[Mapping[str, Any]]) -> int | None:
    """MACs that the candidate shall have, or None when this round does not slim.

    Args:
        config: the whole configuration.
        card: of the live model.
        past: rows of finished rounds, oldest first.
    """
    settings = config.network_slimming
    whole = card.get("unslimmed_macs") or card.get("macs")
    if not settings.enabled or not whole or base.is_untrained(card):
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
    """The work order of one round; every path in it is absolute.

    The live version's file of conditions is copied into the round's folder: the one beside the version may
    change while the round runs.

    Args:
        config: the whole configuration.
        folder: of the round; its name is the round's id.
        live: folder of the model to start from.
        frozen: folder of the first model.
        samples: looks up the files of sample ids.
        plan: which samples serve as what.
        steps: optimiser steps.
        learning_rate: the largest one.
        scales: factor that an image is resized by for training, by id; the others are not. What is held out
            is judged as it is stored.
        target_macs: see ``slim_target``.
        seed: of everything random in the round.
        scope: what the round is for.
    """
    training = config.training
    folder = folder.resolve()

    def resized(ids: Sequence[str]) -> tuple[jobs.JobSample, ...]:
        stored = samples([each for each in ids if is_anchor(each) is None])
        # Beside the folders of rounds: each anchor is made readable once.
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
        looks=pace.evaluation_steps(steps) if training.early_stopping else (),
        min_gain=config.promotion.min_gain,
        confidence=config.promotion.confidence,
        distillation=training.distillation if scope.distils else 0.0,
        kind=scope.kind,
        condition=scope.condition,
        note=scope.note,
        conditions=_own_copy(live / CONDITIONS_FILE, folder) if config.conditions.enabled else "",
        graph=_served_by_onnxruntime(config),
    )


def counted_at(config: Config, live: Path) -> tuple[int, int]:
    """The (height, width) that the live model's MACs are counted at, and so those of what comes of it.

    A base model brings its own: held against MACs at another size, a step of slimming would be another one.
    """
    try:
        return read_card(live).macs_at
    except CheckpointError:  # told of where the model is loaded
        width, height = config.model.size
        return height, width


def _served_by_onnxruntime(config: Config) -> bool:
    """Whether the daemon will want to."""
    return config.inference.enabled and config.inference.engine != "torch" and engine_graph.installed()


def _own_copy(file: Path, folder: Path) -> str:
    """Copy a file into the round's folder; "" where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return str(shutil.copyfile(file, folder / file.name))
    except FileNotFoundError:
        return ""
