"""The gate's table: candidate against live model on each held-out sample, as a whole and by condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dance_ondevice.daemon.children.counts import (
    GatePlace,
    block_numbers,
    counts_file,
    paired_counts,
    read_counts,
)
from dance_ondevice.policies.promotion import bootstrap, promotion


@dataclass(frozen=True)
class GateTable:
    """Everything that was compared; ``whole`` is None when the counts of the samples are not there."""

    whole: bootstrap.Comparison | None
    groups: tuple[promotion.Group, ...] = ()


def build(
    folder: Path,
    places: Mapping[str, GatePlace],
    *,
    new_since: Mapping[str, float],
    block_seconds: float,
    confidence: float,
    seed: int,
) -> GateTable:
    """Compare what the trainer left in the round's folder.

    Args:
        folder: of the round.
        places: of the held-out samples, by id.
        new_since: when the round's new samples begin, in seconds, by camera: an older sample is of an old
            scene.
        block_seconds: length of a block of time.
        confidence: of the bounds.
        seed: of the draws.
    """
    found = paired_counts(
        read_counts(counts_file(folder, "live")),
        read_counts(counts_file(folder, "candidate")),
    )
    return of_pairs(
        found,
        places,
        new_since=new_since,
        block_seconds=block_seconds,
        confidence=confidence,
        seed=seed,
    )


def of_pairs(
    found: Mapping[str, bootstrap.Pair],
    places: Mapping[str, GatePlace],
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
            block_numbers(chosen, places, block_seconds),
            confidence=confidence,
            seed=seed,
        )

    members: dict[str, list[str]] = {}
    for identifier in ids:
        members.setdefault(_group(places.get(identifier), new_since), []).append(identifier)
    groups = (
        tuple(promotion.Group(name, compared(chosen)) for name, chosen in sorted(members.items()))
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
                "change": change.point,
                "lower": change.lower,
                "upper": change.upper,
            }
            for name, pixels, change in zip(classes, whole.pixels, whole.classes, strict=False)
            if change is not None
        ],
        "groups": [{"name": group.name, **_figures(group.comparison)} for group in table.groups],
    }


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


def _group(place: GatePlace | None, new_since: Mapping[str, float]) -> str:
    if place is None:
        return "samples that are gone"
    if place.condition:
        return f"condition {place.condition}"
    since = new_since.get(place.camera)
    return f"camera {place.camera}, {'earlier' if since is None or place.captured_at < since else 'recent'}"
