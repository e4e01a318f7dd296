"""Start of rounds: whether there is something to learn, whether it is allowed now, and from which samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dance_ondevice.policies.samples.sample_value import balanced_draw, choose, values
from dance_ondevice.policies.samples.splits import TEACHER, SampleInfo

__all__ = [
    "Drifted",
    "RoundPlan",
    "StartDecision",
    "answered",
    "in_window",
    "needed_after_drift",
    "parse_window",
    "plan_round",
    "should_start",
]

_WINDOW = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})", re.ASCII)
_MINUTES_PER_DAY = 24 * 60
#: After drift a round needs one in _DRIFT_SHARE of the usual new samples, and at least _LEAST_AFTER_DRIFT:
#: the gain of fewer cannot be distinguished from noise at the gate.
_DRIFT_SHARE = 4
_LEAST_AFTER_DRIFT = 4


@dataclass(frozen=True, slots=True)
class StartDecision:
    """Decision whether a round may start, and the reason in words."""

    start: bool
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Drifted:
    """A camera whose stream has changed and from which no round has learnt since.

    Attributes:
        camera: Name of the camera.
        signals: Names of the changed signals, such as ``luma``.
        new_labelled: Number of its new labelled samples since, which may train and were not used yet.
    """

    camera: str
    signals: tuple[str, ...]
    new_labelled: int

    @property
    def words(self) -> str:
        """Return the drift in words, for reasons."""
        return f"drift of {', '.join(self.signals)} on camera {self.camera}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundPlan:
    """Samples of one round, by id; the three groups are disjoint.

    Attributes:
        train: Samples that train for the first time, in order of time.
        rehearsal: Samples that trained before and are repeated against forgetting, in order of time.
        gate: Held-out samples that live model and candidate are compared on, in order of time.
        reason: Numbers of samples in words, or what is missing.
        by_teacher: True if a teacher labelled the gate: agreement with it is no accuracy.
    """

    train: tuple[str, ...]
    rehearsal: tuple[str, ...]
    gate: tuple[str, ...]
    reason: str
    by_teacher: bool = False

    @property
    def ready(self) -> bool:
        """Return whether there are samples to train on and samples to judge the candidate on."""
        return bool(self.train) and bool(self.gate)


def parse_window(window: str) -> tuple[int, int] | None:
    """Parse a window "HH:MM-HH:MM" to the minutes of the day at which it opens and closes.

    The window "", which is always open, gives None.

    Raises:
        ValueError: The text has another form; the message says how to write it.
    """
    if not window:
        return None
    match = _WINDOW.fullmatch(window)
    numbers = [int(group) for group in match.groups()] if match else []
    if not match or max(numbers[1], numbers[3]) > 59:
        raise ValueError(
            f'the window is {window!r}; write "HH:MM-HH:MM" such as "01:00-05:00", or "" for always'
        )
    opens, closes = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
    if opens >= _MINUTES_PER_DAY or closes > _MINUTES_PER_DAY or opens == closes:
        raise ValueError(
            f"the window is {window!r}; it must open between 00:00 and 23:59, close at 24:00 at the latest, "
            'and not at the minute it opens ("" is always open)'
        )
    return opens, closes


def in_window(window: str, minutes_of_day: int) -> bool:
    """Return whether a window "HH:MM-HH:MM" is open; its end is exclusive, and it may wrap midnight.

    Args:
        window: Local times of day; "" is always open.
        minutes_of_day: Local time in minutes, 0 to 1439.

    Raises:
        ValueError: The window has another form, or the minute is out of range.
    """
    if not 0 <= minutes_of_day < _MINUTES_PER_DAY:
        raise ValueError(f"minute {minutes_of_day} of the day; give 0 to {_MINUTES_PER_DAY - 1}")
    hours = parse_window(window)
    if hours is None:
        return True
    opens, closes = hours
    if opens < closes:
        return opens <= minutes_of_day < closes
    return minutes_of_day >= opens or minutes_of_day < closes


def needed_after_drift(min_new_samples: int, configured: int = 0) -> int:
    """Return the new labelled samples of a drifted camera that a round needs; never more than usual.

    Args:
        min_new_samples: Number that a round usually needs.
        configured: Number instead of a quarter of them; 0 for the quarter, at least 4.
    """
    wanted = configured or max(_LEAST_AFTER_DRIFT, -(-min_new_samples // _DRIFT_SHARE))
    return min(wanted, max(1, min_new_samples))


def answered(drifted: Sequence[Drifted], needed: int) -> tuple[str, ...]:
    """Return the cameras whose drift a round that starts now learns from: with enough new samples since."""
    return tuple(each.camera for each in drifted if each.new_labelled >= needed)


def should_start(
    *,
    new_labelled: int,
    min_new_samples: int,
    paused: bool,
    window_open: bool,
    forced: bool,
    window: str = "",
    drifted: Sequence[Drifted] = (),
    min_after_drift: int = 0,
) -> StartDecision:
    """Decide whether there is something to learn and it may be learnt now; energy is decided elsewhere.

    Args:
        new_labelled: Number of labelled samples that may train and were not used yet.
        min_new_samples: Number of them that a round needs, unless `forced`.
        paused: True if the user paused training; that holds for forced rounds too.
        window_open: True if it is the time of day to train; forced rounds ignore it.
        forced: True if the user asked for a round now.
        window: Window as configured, for the reason.
        drifted: Cameras that have changed since a round learnt from them; enough new samples of one of them
            start a round.
        min_after_drift: Configured number, see ``needed_after_drift``.
    """
    after_drift = needed_after_drift(min_new_samples, min_after_drift)
    due = [each for each in drifted if each.new_labelled >= after_drift]
    needed = 1 if forced else max(1, min_new_samples)
    obstacles: list[str] = []
    if paused:
        obstacles.append("paused")
    if not forced and not window_open:
        obstacles.append(f"outside the window {window}" if window else "outside the training window")
    if new_labelled < needed and not due:
        obstacles.append(
            f"{new_labelled} of {needed} new labelled samples" + _or_after(drifted, after_drift, forced)
        )
    if obstacles:
        return StartDecision(False, "; ".join(obstacles))
    if new_labelled < needed:
        words = [f"{each.words}, and {_samples(each.new_labelled, 'new labelled')} since" for each in due]
        return StartDecision(True, "; ".join(words))
    asked = "asked for by the user" if forced else f"at least {needed} asked for"
    words = [f"{_samples(new_labelled, 'new labelled')}, {asked}", *(each.words for each in due)]
    return StartDecision(True, "; ".join(words))


def _or_after(drifted: Sequence[Drifted], needed: int, forced: bool) -> str:
    """Return in words what else a round waits for: the drifted camera with the most new samples."""
    if forced or not drifted:
        return ""
    nearest = max(drifted, key=lambda each: each.new_labelled)
    return f", or {nearest.new_labelled} of {needed} since {nearest.words}"


def plan_round(
    samples: Sequence[SampleInfo],
    *,
    max_samples: int,
    seed: int,
    rehearsal_share: float = 0.5,
    max_gate: int = 200,
    teacher_judges: bool = False,
) -> RoundPlan:
    """Choose the samples of a round; the same for any order of `samples`.

    New samples are all labelled "train" samples that no round used. If there are too many, those worth most
    are taken (uncertain, complex, of rare classes and conditions, unlike each other: ``sample_value``), and
    the others wait for a later round. Rehearsal is drawn from the samples that rounds used before, up to
    `rehearsal_share` of all training samples of the round, balanced over cameras, conditions and classes. The
    gate takes every "gate" sample that a person or the camera labelled, never one that a model labelled;
    beyond `max_gate` half of it are the newest and half are spread over the older ones, so that old scenes
    stay judged.

    Args:
        samples: All stored samples, in any order, with their splits.
        max_samples: Most training samples of the round, new and rehearsal together, at least 1.
        seed: Seed of the draw.
        rehearsal_share: Share of rehearsal among the training samples, 0 or more and less than 1.
        max_gate: Most gate samples, at least 1.
        teacher_judges: Whether a teacher's labels judge where no held-out sample has another label.

    Raises:
        ValueError: A limit is out of range.
    """
    if max_samples < 1 or max_gate < 1:
        raise ValueError(f"max_samples is {max_samples} and max_gate {max_gate}; both must be 1 or more")
    if not 0.0 <= rehearsal_share < 1.0:
        raise ValueError(f"the rehearsal share is {rehearsal_share}; give 0 or more and less than 1")
    labelled = sorted((s for s in samples if s.labelled), key=lambda each: (each.captured_at, each.id))
    training = [sample for sample in labelled if sample.split == "train"]
    fresh = [sample for sample in training if sample.rounds_used == 0]
    used = [sample for sample in training if sample.rounds_used > 0]
    # A model's label may be wrong: agreement with it does not measure accuracy.
    held_out = [sample.id for sample in labelled if sample.split == "gate" and not sample.by_machine]
    unjudged = sum(sample.split == "gate" and sample.by_machine for sample in labelled)
    by_teacher = teacher_judges and not held_out
    if by_teacher:
        held_out = [s.id for s in labelled if s.split == "gate" and s.label_source == TEACHER]

    # Rehearsal is reserved first: otherwise many new samples would leave none, and old scenes be forgotten.
    free = max_samples - min(len(used), int(rehearsal_share * max_samples))
    train = _most_valuable(fresh, free, training)
    wanted = int(len(train) * rehearsal_share / (1.0 - rehearsal_share) + 1e-9)
    drawn = set(balanced_draw(used, min(wanted, len(used), max_samples - len(train)), seed))
    rehearsal = [each.id for each in used if each.id in drawn]
    newest = min(len(held_out), (max_gate + 1) // 2)
    gate = _spread(held_out[:-newest], max_gate - newest) + held_out[-newest:] if newest else []
    if not labelled:
        reason = "no labelled samples yet: nothing to learn"
    elif not train:
        reason = (
            f"no new samples to train on: {_samples(len(labelled), 'labelled')}, {len(used)} trained before"
        )
    elif not gate:
        reason = (
            f"no held-out samples yet among {_samples(len(labelled), 'labelled')} to judge a candidate on"
            + (f"; {unjudged} have a model's label only, which cannot judge a candidate" if unjudged else "")
        )
    else:
        reason = (
            f"{len(train)} of {len(fresh)} new and {len(rehearsal)} of {len(used)} earlier samples "
            f"to train on, {len(gate)} of {len(held_out)} held-out samples to judge on"
            + (", all of them by the teacher's labels" if by_teacher else "")
        )
    return RoundPlan(
        train=tuple(train),
        rehearsal=tuple(rehearsal),
        gate=tuple(gate),
        reason=reason,
        by_teacher=by_teacher and bool(gate),
    )


def _most_valuable(fresh: list[SampleInfo], count: int, among: list[SampleInfo]) -> list[str]:
    """Return the ids of the most valuable `count` samples at most, in order of time."""
    if len(fresh) <= count:
        return [sample.id for sample in fresh]
    chosen = choose(fresh, count, values(fresh, among))
    # Near-duplicates fill the rest: they have a further class, or the splits would have left them out.
    taken = {*chosen.ids, *chosen.duplicates[: count - len(chosen.ids)]}
    return [sample.id for sample in fresh if sample.id in taken]


def _spread(items: list[str], count: int) -> list[str]:
    """Return at most `count` items, evenly spaced, always including the last one."""
    if len(items) <= count:
        return list(items)
    return [items[(index + 1) * len(items) // count - 1] for index in range(count)]


def _samples(count: int, kind: str) -> str:
    return f"{count} {kind} sample" if count == 1 else f"{count} {kind} samples"
