"""Data slimming of a complete set of images: each is ranked among all of its kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dance_ondevice.policies.stream import lights
from dance_ondevice.policies.stream.data_slimming import Decision, SlimmingRules, dropped, kept
from dance_ondevice.policies.stream.keep_odds import draw
from dance_ondevice.policies.stream.stream_state import FrameFigures, KindName

__all__ = ["decide_all", "kinds_of"]


def decide_all(rules: SlimmingRules, frames: Sequence[FrameFigures]) -> list[Decision]:
    """Decide on a complete set of images: each is ranked among all of its kind.

    Of every kind the drop fraction goes, to within one image, and of what is kept each scale gets its share:
    equal scores share their places by a seeded draw. Nothing is new, repeated or damaged here.

    Args:
        rules: Rules from the configuration; warm-up and window have no meaning here.
        frames: Frames in order of time, in which lights are recognised; labels are ignored.

    Returns:
        One decision an image, in their order.

    Raises:
        ValueError: a figure is not finite.
    """
    for frame in frames:
        if not math.isfinite(frame.score):
            raise ValueError(f"the score of an image is {frame.score}; it must be finite")
    members: dict[KindName, list[int]] = {}
    for index, kind in enumerate(kinds_of(frames)):
        members.setdefault(kind, []).append(index)
    decisions: dict[int, Decision] = {}
    owed = 0.0  # what rounding has left over goes on to the next kind
    for (condition, number), indices in members.items():
        count = rules.drop_fraction * len(indices) + owed
        going = min(len(indices), max(0, round(count)))
        owed = count - going
        name = condition or f"light{number}"
        decisions.update(_decide_kind(rules, {i: frames[i].score for i in indices}, going, name))
    scales = _even_scales(rules, {i: found.quantile for i, found in decisions.items() if found.keep})
    return [
        replace(decisions[index], scale=scales[index]) if index in scales else decisions[index]
        for index in range(len(frames))
    ]


def _even_scales(rules: SlimmingRules, quantiles: Mapping[int, float]) -> dict[int, float]:
    """The scale of each kept image by its rank among its like, so that every scale has its share of all."""
    rising = sorted(rules.scales)
    order = sorted(quantiles, key=lambda index: (quantiles[index], draw(rules.seed, index, "scale")))
    return {index: rising[place * len(rising) // len(order)] for place, index in enumerate(order)}


def kinds_of(frames: Sequence[FrameFigures]) -> list[KindName]:
    """What each image is alike to: its condition, and its light, told in order of time.

    Raises:
        ValueError: a figure is not finite.
    """
    found, names = lights.Lights(), list[KindName]()
    for frame in frames:
        found, sighting = lights.locate(found, frame.luma, frame.contrast)
        names.append((frame.condition, sighting.number))
    return names


def _decide_kind(
    rules: SlimmingRules, scores: Mapping[int, float], count: int, condition: str
) -> dict[int, Decision]:
    """Decide on all images of one kind, of which so many go."""
    places = sorted(scores, key=lambda index: (scores[index], draw(rules.seed, index, "tie")))
    quantiles = {index: (place + 0.5) / len(places) for place, index in enumerate(places)}
    # A weighted draw without replacement (Efraimidis and Spirakis 2006): the largest u^(1/w) go.
    keys = {
        index: math.log(1.0 - draw(rules.seed, index, "drop")) / max(1e-9, rules.odds.drop_chance(quantile))
        for index, quantile in quantiles.items()
    }
    gone = set(sorted(keys, key=lambda index: keys[index], reverse=True)[:count])
    return {
        index: dropped(rules, quantile, condition, len(places))
        if index in gone
        else kept(rules, quantile, condition, len(places))
        for index, quantile in quantiles.items()
    }
