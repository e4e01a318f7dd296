"""Data slimming: a frame's complexity score decides if it is kept, at which scale, and how much it counts.

Thresholds are not numbers of a site but ranks in the camera's own recent stream. A frame's quantile is its
mid-rank among the last scores and itself, with ties broken by a seeded uniform draw ``u``::

    quantile = (lower + u * (equal + 1)) / (window + 1)

For exchangeable scores this is exactly uniform on [0, 1), ties or not (the smoothed rank of conformal
prediction: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", chapter 2). So a stationary
stream meets the drop fraction, a constant one too, and the mean loss weight of what is kept is 1.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

__all__ = ["Decision", "SlimmingRules", "StreamState", "decide", "decide_all", "initial_state"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SlimmingRules:
    """What the user may set.

    Attributes:
        scales: the resolutions to choose from, as factors of the native size, each in (0, 1].
        drop_fraction: share of a stationary stream that is dropped, in [0, 1).
        loss_weighting: whether complex frames count more in the training loss.
        warmup_frames: so many first frames of a camera are all kept, at the largest scale.
        window_frames: how many of the latest scores a new one is ranked among.
        seed: of the draws that break ties.

    Raises:
        ValueError: a value is impossible; the text names it and what is allowed.
    """

    scales: tuple[float, ...] = (1.0, 0.75, 0.5)
    drop_fraction: float = 0.3
    loss_weighting: bool = True
    warmup_frames: int = 16
    window_frames: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.scales or not all(0.0 < scale <= 1.0 for scale in self.scales):
            raise ValueError(f"scales is {self.scales}; give at least one, each above 0 and at most 1")
        if not 0.0 <= self.drop_fraction < 1.0:
            raise ValueError(f"drop_fraction is {self.drop_fraction}; give 0 or more and less than 1")
        if self.warmup_frames < 0:
            raise ValueError(f"warmup_frames is {self.warmup_frames}; give 0 or more")
        if self.window_frames < 1:
            raise ValueError(f"window_frames is {self.window_frames}; give 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamState:
    """What is remembered of one camera's stream; `decide` returns the next one.

    Attributes:
        camera: the camera's name.
        seen: frames scored so far.
        recent: the latest scores, oldest first, at most ``window_frames`` of them.
        ordered: the same scores in ascending order.
    """

    camera: str
    seen: int
    recent: tuple[float, ...]
    ordered: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What to do with one frame.

    Attributes:
        keep: whether to store it. A dropped frame may still be segmented, at `scale`.
        scale: factor of the native size at which to store, train and infer.
        weight: factor of its training loss; over the kept frames of a stationary stream the mean is 1.
        quantile: rank of its score in the camera's recent stream, in [0, 1).
        reason: the above in words, with figures.
    """

    keep: bool
    scale: float
    weight: float
    quantile: float
    reason: str


def initial_state(camera: str) -> StreamState:
    """The state of a camera that has shown nothing yet."""
    return StreamState(camera=camera, seen=0, recent=(), ordered=())


def decide(rules: SlimmingRules, state: StreamState, score: float) -> tuple[StreamState, Decision]:
    """Decide on the camera's next frame.

    For one and the same state, `keep`, `scale` and `weight` never fall as the score rises.

    Args:
        rules: what the user set.
        state: of this camera, before this frame.
        score: spatial complexity of the frame, finite; higher means that downsampling would lose more.

    Returns:
        The camera's state after this frame, and the decision.

    Raises:
        ValueError: the score is not finite.
    """
    if not math.isfinite(score):
        raise ValueError(f"the score of a frame of camera {state.camera!r} is {score}; it must be finite")
    quantile = _quantile(rules, state, score)
    decision = _warmup(rules, state, quantile) or _ranked(rules, state, quantile)
    return _remember(rules, state, score), decision


def decide_all(rules: SlimmingRules, scores: Sequence[float]) -> list[Decision]:
    """Decide on a set of images that are all there at once: each is ranked among all of them.

    Equal scores share their places by a seeded draw, so that the drop fraction is met whatever the scores.

    Args:
        rules: what the user set; warm-up and window have no meaning here.
        scores: one an image, finite.

    Returns:
        One decision an image, in their order.

    Raises:
        ValueError: a score is not finite.
    """
    for score in scores:
        if not math.isfinite(score):
            raise ValueError(f"the score of an image is {score}; it must be finite")
    whole = StreamState(
        camera="", seen=rules.warmup_frames, recent=tuple(scores), ordered=tuple(sorted(scores))
    )
    places = sorted(range(len(scores)), key=lambda index: (scores[index], _draw(rules.seed, index, "")))
    decisions: list[Decision | None] = [None] * len(scores)
    for place, index in enumerate(places):
        decisions[index] = _ranked(rules, whole, (place + 0.5) / len(scores))
    return [decision for decision in decisions if decision is not None]


def _quantile(rules: SlimmingRules, state: StreamState, score: float) -> float:
    lower = bisect_left(state.ordered, score)
    equal = bisect_right(state.ordered, score, lo=lower) - lower
    u = _draw(rules.seed, state.seen, state.camera)
    return (lower + u * (equal + 1)) / (len(state.ordered) + 1)


def _draw(seed: int, number: int, camera: str) -> float:
    """Uniform in [0, 1), a function of its arguments."""
    # 32 bits: sums with whole numbers stay exact, so the rank is below 1 and monotone to the last bit.
    digest = blake2b(f"{seed}/{number}/{camera}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32


def _warmup(rules: SlimmingRules, state: StreamState, quantile: float) -> Decision | None:
    if state.seen >= rules.warmup_frames:
        return None
    scale = max(rules.scales)
    reason = (
        f"kept at scale {scale:g}: warm-up, frame {state.seen + 1} of the first {rules.warmup_frames} "
        "of this camera, which are all kept to learn what it sees"
    )
    return Decision(keep=True, scale=scale, weight=1.0, quantile=quantile, reason=reason)


def _ranked(rules: SlimmingRules, state: StreamState, quantile: float) -> Decision:
    scales = sorted(rules.scales)
    if not state.ordered:
        # Nothing to be ranked among: the drawn quantile says nothing about this frame.
        reason = f"kept at scale {scales[-1]:g}: it is the first frame of this camera"
        return Decision(keep=True, scale=scales[-1], weight=1.0, quantile=quantile, reason=reason)
    rank = (
        f"its detail ranks at {100 * quantile:.1f} % of the last {len(state.ordered)} "
        f"frame{'s' * (len(state.ordered) != 1)} of this camera"
    )
    if quantile < rules.drop_fraction:
        reason = f"dropped: {rank}, and what is below {100 * rules.drop_fraction:g} % is dropped"
        # The weight that the least of the kept frames would have: it is not stored, so it matters to nobody.
        weight = 0.5 if rules.loss_weighting else 1.0
        return Decision(keep=False, scale=scales[0], weight=weight, quantile=quantile, reason=reason)
    position = (quantile - rules.drop_fraction) / (1.0 - rules.drop_fraction)
    scale = scales[min(int(position * len(scales)), len(scales) - 1)]
    weight = 0.5 + position if rules.loss_weighting else 1.0
    reason = f"kept at scale {scale:g}: {rank}; it counts {weight:.2f} times in training"
    return Decision(keep=True, scale=scale, weight=weight, quantile=quantile, reason=reason)


def _remember(rules: SlimmingRules, state: StreamState, score: float) -> StreamState:
    # Usually one score leaves; more when the rules allow a shorter window than those before.
    leaving = max(0, len(state.recent) + 1 - rules.window_frames)
    ordered = list(state.ordered)
    for old in state.recent[:leaving]:
        del ordered[bisect_left(ordered, old)]
    insort(ordered, score)
    return StreamState(
        camera=state.camera,
        seen=state.seen + 1,
        recent=(*state.recent[leaving:], score),
        ordered=tuple(ordered),
    )
