"""From the records of past rounds to how the next one is run: its pace, its size, and whether at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from dance_ondevice.daemon.children import jobs
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.policies.budget.usefulness import JudgedRound
from dance_ondevice.policies.rounds import pace, shrinking


def next_pace(past: Sequence[Mapping[str, Any]]) -> pace.Pace:
    """The pace of the next round, from the rows of finished ones, oldest first."""
    return pace.next_pace(
        [
            pace.PastPace(
                pace=_decode(row.get("pace"), pace.Pace) or pace.Pace(),
                curve=_decode(row.get("curve"), pace.Curve),
                outcome=row["outcome"],
                diverged="TrainingDiverged" in (row.get("reasons") or ""),
            )
            for row in past
        ]
    )


def judged(past: Sequence[Mapping[str, Any]]) -> list[JudgedRound]:
    """What rows of finished rounds, oldest first, say of the use of learning."""
    return [
        JudgedRound(
            outcome=row["outcome"],
            before=row["miou_before"],
            after=row["miou_after"],
            frozen=row["miou_frozen"],
        )
        for row in past
    ]


def first_size(full: int, past: Sequence[Mapping[str, Any]], limit_bytes: int) -> shrinking.RoundSize:
    """What a round begins with, given what the last one fitted with.

    Args:
        full: images in a step, as configured.
        past: rows of finished rounds, oldest first.
        limit_bytes: that a trainer may use now.
    """
    whole = shrinking.RoundSize(full)
    for row in reversed(past):
        if row.get("batch_size"):
            last = shrinking.RoundSize(row["batch_size"], row["image_scale"] or 1.0)
            return shrinking.regrow(whole, last, row["peak_bytes"], limit_bytes)
    return whole


def resized(job: jobs.Job, size: shrinking.RoundSize, before: float = 1.0) -> jobs.Job:
    """The same round in another size; ``before`` is the factor on its images that the job has already."""

    def scaled(samples: tuple[jobs.JobSample, ...]) -> tuple[jobs.JobSample, ...]:
        return tuple(msgspec.structs.replace(s, scale=s.scale * size.scale / before) for s in samples)

    return msgspec.structs.replace(
        job,
        batch_size=size.batch_size,
        train=scaled(job.train),
        rehearsal=scaled(job.rehearsal),
    )


def encode(value: pace.Pace | pace.Curve | None) -> str | None:
    """As the column ``pace`` or ``curve`` holds it."""
    return None if value is None else json.dumps(asdict(value))


def _decode(text: str | None, kind: type[Any]) -> Any:
    if not text:
        return None
    try:
        return decode(text, kind)
    except DocumentError:  # of an older or a newer version: it is ignored
        return None
