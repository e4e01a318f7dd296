"""Which releases of a fleet a model goes back to, and what it has learnt since: facts in its card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["after_release", "after_round", "lineage", "samples_since"]

_KEY = "fleet"
#: Releases that are remembered: more than a fleet's server does.
_REMEMBERED = 16


def lineage(training: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the SHA-256 of the releases that a model took, newest first."""
    found = _facts(training).get("lineage")
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def samples_since(training: Mapping[str, Any]) -> int:
    """Return how many labelled samples a model has learnt from since it took its newest release."""
    found = _facts(training).get("samples")
    return found if isinstance(found, int) else 0


def after_round(training: Mapping[str, Any], new_samples: int) -> dict[str, Any]:
    """Return the facts of a model that was trained on so many new samples, to be added to its card's."""
    return {
        _KEY: {"lineage": list(lineage(training)), "samples": samples_since(training) + max(0, new_samples)}
    }


def after_release(training: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    """Return the facts of a model that took a release."""
    return {_KEY: {"lineage": [sha256, *lineage(training)][:_REMEMBERED], "samples": 0}}


def _facts(training: Mapping[str, Any]) -> Mapping[str, Any]:
    found = training.get(_KEY)
    return found if isinstance(found, Mapping) else {}
