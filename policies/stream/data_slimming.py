"""Data slimming: which frames are kept, at which scale and with which weight, compared with similar frames.

Complexity falls with the brightness. Ranked over all frames a new dusk would be dropped, so a frame is ranked
only among those of its own kind: the camera's condition and light. A new kind with few frames is kept
completely, at full scale. Of the others a share is dropped, with a probability that is constant or falls with
complexity. A kept frame's weight is the inverse of its probability to be kept, so that the expected loss is
that of all frames (Qin et al., "InfoBatch", arXiv 2303.04947).

Thresholds are not fixed numbers but ranks in the camera's own recent stream. A frame's quantile is its
mid-rank among the last scores of its kind and itself, with ties broken by a seeded uniform draw ``u``::

    quantile = (lower + u * (equal + 1)) / (window + 1)

For exchangeable scores this is exactly uniform on [0, 1), ties or not (the smoothed rank of conformal
prediction: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", chapter 2).

An account limits the dropped share at every moment, not only in the mean: each frame adds the drop fraction,
each drop takes 1, and the account never falls below 0. Each camera and each kind has an account of at most 2,
so that of any N frames in a row, and of any N of a kind, fewer than ``drop_fraction * N + 2`` are dropped,
whatever their scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from dance_ondevice.policies.stream import lights, repeats
from dance_ondevice.policies.stream.keep_odds import Odds, draw
from dance_ondevice.policies.stream.stream_state import FrameFigures, Kind, KindName, StreamState

__all__ = [
    "CHOICES",
    "Choice",
    "Decision",
    "Outcome",
    "SlimmingRules",
    "decide",
    "dropped",
    "kept",
]

Choice = Literal["random", "complexity"]
CHOICES: tuple[Choice, ...] = ("random", "complexity")
#: Outcome of a frame: "dropped" by rank or chance, "repeated" and "damaged" by its content.
Outcome = Literal["kept", "dropped", "repeated", "damaged"]

#: Largest balance of an account; more is lost.
_MOST_IN_ACCOUNT = 2.0
#: Largest number of kinds of a camera; the one not seen for longest is forgotten.
_MOST_KINDS = 64
#: A lower part that is flat is no damage where so many of a camera's last frames, or more, have one.
_FLAT_WINDOW = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class SlimmingRules:
    """Rules of data slimming from the configuration.

    Attributes:
        scales: Resolutions to choose from, as factors of the native size, each in (0, 1].
        drop_fraction: Share of a stationary stream that is dropped, in [0, 1).
        choice: Choice of the dropped frames: at random, or with a probability that falls with complexity.
        loss_weighting: True weights a kept frame by the inverse of its probability to be kept.
        warmup_frames: Number of first frames of a kind that are all kept, at the largest scale.
        window_frames: Number of latest scores of its kind that a new one is ranked among.
        screen: True keeps repetitions and damaged frames out.
        seed: Seed of the draws.

    Raises:
        ValueError: A value is impossible; the message names it and what is allowed.
    """

    scales: tuple[float, ...] = (1.0, 0.75, 0.5)
    drop_fraction: float = 0.3
    choice: Choice = "random"
    loss_weighting: bool = True
    warmup_frames: int = 16
    window_frames: int = 128
    screen: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.scales or not all(0.0 < scale <= 1.0 for scale in self.scales):
            raise ValueError(f"scales is {self.scales}; give at least one, each above 0 and at most 1")
        if not 0.0 <= self.drop_fraction < 1.0:
            raise ValueError(f"drop_fraction is {self.drop_fraction}; give 0 or more and less than 1")
        if self.choice not in CHOICES:
            raise ValueError(f"choice is {self.choice!r}; give one of {', '.join(CHOICES)}")
        if self.warmup_frames < 0:
            raise ValueError(f"warmup_frames is {self.warmup_frames}; give 0 or more")
        if self.window_frames < 1:
            raise ValueError(f"window_frames is {self.window_frames}; give 1 or more")

    @property
    def odds(self) -> Odds:
        """Return the probabilities, weights and scales of frames of a known kind."""
        return Odds(drop_fraction=self.drop_fraction, by_complexity=self.choice == "complexity")


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Decision about one frame.

    Attributes:
        outcome: Outcome of the frame.
        scale: Factor of the native size at which to store, train and infer.
        weight: Factor of its training loss; over the kept frames of a stationary stream the mean is 1.
        quantile: Rank of its score in the recent stream of its kind, in [0, 1).
        condition: Condition that it is counted under, else its light, such as "light2".
        reason: Reason in words, with figures.
    """

    outcome: Outcome
    scale: float
    weight: float
    quantile: float
    condition: str
    reason: str

    @property
    def keep(self) -> bool:
        """Return whether to store it. A frame that is not kept may still be segmented, at `scale`."""
        return self.outcome == "kept"


def decide(rules: SlimmingRules, state: StreamState, frame: FrameFigures) -> tuple[StreamState, Decision]:
    """Decide on the camera's next frame.

    In this order: a frame with a flat lower part is "damaged", if the camera's usual ones have none; one that
    repeats a kept picture is "repeated"; one of a kind that few frames were seen of is kept; one with a label
    is kept; of the others the drop fraction goes. A damaged frame with a label is kept, too. For one and the
    same state, `keep` and `scale` never fall as the score rises.

    Args:
        rules: Rules from the configuration.
        state: State of this camera before this frame.
        frame: Figures of the frame.

    Returns:
        The camera's state after this frame, and the decision.

    Raises:
        ValueError: A figure is not finite.
    """
    if not math.isfinite(frame.score):
        raise ValueError(
            f"the score of a frame of camera {state.camera!r} is {frame.score}; it must be finite"
        )
    found, sighting = lights.locate(state.lights, frame.luma, frame.contrast)
    name = (frame.condition, sighting.number)
    counted_as = frame.condition or f"light{sighting.number}"
    usual = 2 * (state.flat.bit_count() + 1) > min(_FLAT_WINDOW, state.seen + 1)
    flat = (state.flat << 1 | frame.flat_below) & ((1 << _FLAT_WINDOW) - 1)
    if rules.screen and frame.flat_below and not usual and not frame.label:
        # It does not show the camera's light or detail, so neither is recorded.
        return replace(state, flat=flat, seen=state.seen + 1), _damaged(rules, counted_as)
    kind = Kind() if sighting.opened else state.kinds.get(name, Kind()).comparable_to(frame)
    others = _others(state.kinds, name, sighting)
    place = repeats.find(state.pictures, frame.code, frame.label) if rules.screen else None
    if place is not None:
        state = replace(state, flat=flat, lights=found, kinds={**others, name: kind})
        return _again(rules, state, place, counted_as)
    after, decision = _choose(rules, state, kind, frame, counted_as)
    others[name] = kind.with_score(frame.score, rules.window_frames, account=after.kind)
    pictures = state.pictures
    if rules.screen and decision.keep:
        pictures = repeats.remember(pictures, frame.code, frame.label)
    # Made anew rather than by `replace`, which takes longer than all of the above: this runs for every frame.
    return StreamState(
        camera=state.camera,
        seen=state.seen + 1,
        lights=found,
        kinds=others,
        pictures=pictures,
        account=after.whole,
        flat=flat,
    ), decision


def _damaged(rules: SlimmingRules, condition: str) -> Decision:
    return Decision(
        outcome="damaged",
        scale=max(rules.scales),
        weight=1.0,
        quantile=0.0,
        condition=condition,
        reason="not kept: its lower part is one flat colour, as a decoder leaves it that lost data",
    )


def _again(
    rules: SlimmingRules, state: StreamState, place: int, condition: str
) -> tuple[StreamState, Decision]:
    times = state.pictures[place].repeats + 1
    kept = repeats.is_kept_again(times)
    # What repeats goes first: it takes from what may be dropped of the others.
    account = _paid_in(rules, state.account) - (0.0 if kept else 1.0)
    state = replace(
        state,
        seen=state.seen + 1,
        pictures=repeats.repeated(state.pictures, place),
        account=max(0.0, account),
        standing=state.standing + 1,
    )
    words = f"it repeats a picture that was kept, for the {times}. time"
    return state, Decision(
        outcome="kept" if kept else "repeated",
        scale=max(rules.scales),
        weight=1.0,
        quantile=0.0,
        condition=condition,
        reason=f"kept all the same: {words}" if kept else f"not kept: {words}",
    )


class _Accounts(NamedTuple):
    """What may still be dropped of the camera's frames, and of those of the frame's kind."""

    whole: float
    kind: float


def _choose(
    rules: SlimmingRules, state: StreamState, kind: Kind, frame: FrameFigures, condition: str
) -> tuple[_Accounts, Decision]:
    """Decide among similar frames; returns the accounts after it."""
    quantile = kind.quantile(frame.score, draw(rules.seed, state.seen, state.camera))
    if kind.seen < rules.warmup_frames:
        decision = Decision(
            outcome="kept",
            scale=max(rules.scales),
            weight=1.0,
            quantile=quantile,
            condition=condition,
            reason=(
                f"kept at scale {max(rules.scales):g}: warm-up, frame {kind.seen + 1} of the first "
                f"{rules.warmup_frames} of its kind ({condition}), which are all kept to learn what is usual"
            ),
        )
        return _Accounts(_paid_in(rules, state.account), kind.account), decision
    if not kind.ordered:
        # There are no scores to be ranked among, so the drawn quantile has no meaning.
        scale = max(rules.scales)
        scored = " to be scored by what the model has now learnt" if kind.seen else ""
        reason = f"kept at scale {scale:g}: it is the first frame of its kind ({condition}){scored}"
        decision = Decision(
            outcome="kept", scale=scale, weight=1.0, quantile=quantile, condition=condition, reason=reason
        )
        return _Accounts(_paid_in(rules, state.account), _paid_in(rules, kind.account)), decision
    if frame.label:
        # It neither gives to the accounts nor takes from them: a label is never dropped for being simple.
        found = kept(rules, quantile, condition, len(kind.ordered), why="it has a label; ", weight=1.0)
        return _Accounts(state.account, kind.account), found
    own, whole = _paid_in(rules, kind.account), _paid_in(rules, state.account)
    held = min(own, whole)
    drops = False
    if held >= 1.0:
        # At 1 the chance is the one asked for; what has gathered beyond that presses for a drop, and what
        # would lapse is used.
        chance = rules.odds.drop_chance(quantile)
        pressed = chance / rules.drop_fraction * min(1.0, rules.drop_fraction + held - 1.0)
        drops = held >= _MOST_IN_ACCOUNT or draw(rules.seed, state.seen, f"drop/{state.camera}") < pressed
    if drops:
        return _Accounts(whole - 1.0, own - 1.0), dropped(rules, quantile, condition, len(kind.ordered))
    return _Accounts(whole, own), kept(rules, quantile, condition, len(kind.ordered))


def _paid_in(rules: SlimmingRules, account: float) -> float:
    return min(_MOST_IN_ACCOUNT, account + rules.drop_fraction)


def dropped(rules: SlimmingRules, quantile: float, condition: str, window: int) -> Decision:
    """Make the decision to drop a frame, with its rank among `window` frames."""
    how = "by chance" if rules.choice == "random" else "by a chance that falls with its detail"
    return Decision(
        outcome="dropped",
        scale=min(rules.scales),
        weight=1.0,
        quantile=quantile,
        condition=condition,
        reason=(
            f"dropped {how}, like {100 * rules.drop_fraction:g} % of its kind: "
            + _rank(quantile, condition, window)
        ),
    )


def kept(
    rules: SlimmingRules,
    quantile: float,
    condition: str,
    window: int,
    *,
    why: str = "",
    weight: float | None = None,
) -> Decision:
    """Make the decision to keep a frame, weighted by the inverse of its probability to be kept."""
    scale = rules.odds.scale(quantile, rules.scales)
    if weight is None:
        weight = rules.odds.weight(quantile) if rules.loss_weighting else 1.0
    return Decision(
        outcome="kept",
        scale=scale,
        weight=weight,
        quantile=quantile,
        condition=condition,
        reason=(
            f"kept at scale {scale:g}: {why}{_rank(quantile, condition, window)}; "
            f"it counts {weight:.2f} times in training"
        ),
    )


def _rank(quantile: float, condition: str, window: int) -> str:
    frames = "frame" if window == 1 else "frames"
    return (
        f"its detail ranks at {100 * quantile:.1f} % of the last {window} {frames} of its kind ({condition})"
    )


def _others(
    kinds: Mapping[KindName, Kind], name: KindName, sighting: lights.Sighting
) -> dict[KindName, Kind]:
    """The other kinds, with room for this one: a light that is gone takes its kinds along."""
    gone = sighting.number if sighting.opened else None
    others = {each: kind for each, kind in kinds.items() if each != name and each[1] != gone}
    if len(others) >= _MOST_KINDS:
        del others[next(iter(others))]
    return others
