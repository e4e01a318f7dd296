"""The gate's table: the candidate compared with the live model on held-out samples, overall and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.children.counts import (
    SampleCapture,
    block_numbers,
    counts_file,
    paired_counts,
    read_counts,
)
from dance_ondevice.policies.promotion import bootstrap
from dance_ondevice.policies.promotion.rules import Group

#: What the name of a condition's group begins with.
_CONDITION = "condition "


@dataclass(frozen=True)
class GateTable:
    """The comparisons of a round; ``whole`` is None when there are no counts to compare."""

    whole: bootstrap.Comparison | None
    groups: tuple[Group, ...] = ()


def build(
    folder: Path,
    captures: Mapping[str, SampleCapture],
    *,
    new_since: Mapping[str, float],
    block_seconds: float,
    confidence: float,
    seed: int,
) -> GateTable:
    """Compare the counts that the trainer left in the round's folder.

    Args:
        folder: The round's folder.
        captures: Camera, time and condition of each held-out sample, by id.
        new_since: The second at which the round's new samples begin, by camera; an older sample counts as an
            earlier scene.
        block_seconds: Length of a block of time, in seconds.
        confidence: Confidence of the bounds, 0 to 1.
        seed: Seed of the bootstrap's draws.
    """
    found = paired_counts(
        read_counts(counts_file(folder, "live")),
        read_counts(counts_file(folder, "candidate")),
    )
    return of_pairs(
        found,
        captures,
        new_since=new_since,
        block_seconds=block_seconds,
        confidence=confidence,
        seed=seed,
    )


def of_pairs(
    found: Mapping[str, bootstrap.Pair],
    captures: Mapping[str, SampleCapture],
    *,
    new_since: Mapping[str, float],
    block_seconds: float,
    confidence: float,
    seed: int,
) -> GateTable:
    """Compare two models by their counts of each held-out sample; see ``build``."""
    if not found:
        return GateTable(None)
    ids = list(found)

    def compared(chosen: Sequence[str]) -> bootstrap.Comparison:
        return bootstrap.compare(
            [found[i] for i in chosen],
            block_numbers(chosen, captures, block_seconds),
            confidence=confidence,
            seed=seed,
        )

    members: dict[tuple[str, bool], list[str]] = {}
    for identifier in ids:
        members.setdefault(_group(captures.get(identifier), new_since), []).append(identifier)
    groups = (
        tuple(Group(name, compared(chosen), lasting) for (name, lasting), chosen in sorted(members.items()))
        if len(members) > 1
        else ()
    )
    return GateTable(compared(ids), groups)


def in_words(table: GateTable, classes: Sequence[str]) -> dict[str, Any]:
    """The table as plain data, for the version's card."""
    if table.whole is None:
        return {}
    whole = table.whole
    return {
        **_figures(whole),
        "classes": [
            {
                "class": name,
                "pixels": pixels,
                "units": units,
                "change": change.point,
                "lower": change.lower,
                "upper": change.upper,
            }
            for name, pixels, units, change in zip(
                classes, whole.pixels, whole.class_units, whole.classes, strict=False
            )
            if change is not None
        ],
        "groups": [{"name": group.name, **_figures(group.comparison)} for group in table.groups],
    }


def condition_of(group: str) -> str:
    """The condition that a group stands for; empty for a group of another kind."""
    return group.removeprefix(_CONDITION) if group.startswith(_CONDITION) else ""


def _figures(comparison: bootstrap.Comparison) -> dict[str, Any]:
    return {
        "live": comparison.live,
        "candidate": comparison.candidate,
        "gain": comparison.gain.point,
        "lower": comparison.gain.lower,
        "upper": comparison.gain.upper,
        "samples": comparison.samples,
        "units": comparison.units,
        "unit": comparison.unit,
    }


def _group(capture: SampleCapture | None, new_since: Mapping[str, float]) -> tuple[str, bool]:
    """The group's name, and whether the next round has one of this name with the same kind of samples."""
    if capture is None:
        return "samples that are gone", False
    if capture.condition:
        return f"{_CONDITION}{capture.condition}", True
    since = new_since.get(capture.camera)
    earlier = since is None or capture.captured_at < since
    return f"camera {capture.camera}, {'earlier' if earlier else 'recent'}", earlier
