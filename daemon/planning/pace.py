"""Pace and size of the next round, computed from the records of past rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import msgspec

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.versions.versions import Pointer, age_key
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.policies.budget.usefulness import JudgedRound
from dance_ondevice.policies.rounds import pace, shrinking


def next_pace(past: Sequence[Mapping[str, Any]]) -> pace.Pace:
    """The pace of the next round, from the rows of finished rounds, oldest first."""
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
    """Outcomes and scores of finished rounds, oldest first, for judging the benefit of learning."""
    return [
        JudgedRound(
            outcome=row["outcome"],
            before=row["miou_before"],
            after=row["miou_after"],
            frozen=row["miou_frozen"],
        )
        for row in past
    ]


def of_first(past: Sequence[Mapping[str, Any]], pointer: Pointer | None) -> list[JudgedRound]:
    """Rounds since the present first version, oldest first.

    Earlier ones, before another model was brought in or a class was appended, were held against another one.
    """
    if pointer is None:
        return judged(past)
    first = age_key(pointer.frozen)
    return judged([row for row in past if row.get("parent") is None or age_key(row["parent"]) >= first])


def of_live(past: Sequence[Mapping[str, Any]], pointer: Pointer | None) -> list[JudgedRound]:
    """The latest round that measured the live version, as if it had left that version live; oldest first.

    After a rollback or a promotion by hand the latest round of all tells of another version. All rounds as
    they are where none measured the live one, as where it came from a fleet.
    """
    rounds = judged(past)
    for row, each in zip(reversed(past), reversed(rounds), strict=True):
        if pointer is None or each.gain is None:
            continue
        if row.get("candidate") == pointer.version and each.after is not None:
            return [replace(each, outcome="promoted")]
        if row.get("parent") == pointer.version:
            return [replace(each, outcome="rejected")]
        if row.get("candidate") and pointer.version == pointer.frozen:
            return [replace(each, outcome="rejected", before=each.frozen)]
    return rounds


def first_size(full: int, past: Sequence[Mapping[str, Any]], limit_bytes: int) -> shrinking.RoundSize:
    """The size that a round begins with, given the size in which the last one fitted into memory.

    Args:
        full: Configured number of images in a step.
        past: Rows of finished rounds, oldest first.
        limit_bytes: Memory that a trainer may use now, in bytes.
    """
    whole = shrinking.RoundSize(full)
    for row in reversed(past):
        if row.get("batch_size"):
            last = shrinking.RoundSize(row["batch_size"], row["image_scale"] or 1.0)
            return shrinking.regrow(whole, last, row["peak_bytes"], limit_bytes)
    return whole


def resized(job: jobs.Job, size: shrinking.RoundSize, before: float = 1.0) -> jobs.Job:
    """The same job in another size; ``before`` is the scale factor that its images have already."""

    def scaled(samples: tuple[jobs.JobSample, ...]) -> tuple[jobs.JobSample, ...]:
        return tuple(msgspec.structs.replace(s, scale=s.scale * size.scale / before) for s in samples)

    return msgspec.structs.replace(
        job,
        batch_size=size.batch_size,
        train=scaled(job.train),
        rehearsal=scaled(job.rehearsal),
    )


def encode(value: pace.Pace | pace.Curve | None) -> str | None:
    """Encode a value as the column ``pace`` or ``curve`` stores it."""
    return None if value is None else json.dumps(asdict(value))


def _decode(text: str | None, kind: type[Any]) -> Any:
    if not text:
        return None
    try:
        return decode(text, kind)
    except DocumentError:  # written by an older or a newer build: it is ignored
        return None
