"""What keeps the service from learning, when it looks again, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["REASONS", "LearningFacts", "NextStep", "Obstacle", "next_step"]

_EXPORT = "dance-ondevice samples export --for-labelling 20 --out DIR"
_STREAM = "dance-ondevice stream SOURCE --camera NAME"
_TRAIN = "dance-ondevice train-now --wait"
_ENERGY = "dance-ondevice energy"
_DOCTOR = "dance-ondevice doctor"

#: Every reason for which no round starts, the one that a person should see to first before the others.
REASONS = (
    "no_frames",
    "no_labels",
    "paused",
    "no_budget",
    "suspended",
    "few_labels",
    "few_held_out",
    "no_joules",
    "no_energy_meter",
    "window",
    "refused",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningFacts:
    """What the service knows of itself when it is asked why it does not learn.

    Attributes:
        labelled: samples with a label.
        unlabelled: samples without one.
        untrained: whether the live model has not learnt anything yet.
        running: the round that runs, "" where none does.
        new_labelled: labelled samples that may train and never did; those that have no place yet among them.
        needed: so many new ones start a round.
        enough: whether there are enough of them, also by another rule, such as fewer after a drift.
        judging: labelled samples that a candidate can be judged on, or that may yet be held out for it.
        paused: whether the user paused rounds.
        suspended: why rounds were suspended, "" where they are not.
        window: hours in which rounds may start, "" for always.
        window_open: whether they may at this time of day.
        joules_per_day: that training may spend.
        joules: that it may spend now.
        meter_fault: why the energy meter gives no figure, "" where it does.
        refused: why the last round that was due did not start, "" where there is nothing to tell.
        refused_for_energy: whether that was for want of joules, or for battery or heat.
        not_stored: why the store takes no frames, such as a full disk; "" where it takes them.
        interval: how often it looks by itself, as configured, such as "30m".
        looks_at: local time at which it looks again, as people read it; "" where that is not known.
    """

    labelled: int
    unlabelled: int
    untrained: bool
    running: str = ""
    new_labelled: int = 0
    needed: int = 1
    enough: bool = False
    judging: int = 0
    paused: bool = False
    suspended: str = ""
    window: str = ""
    window_open: bool = True
    joules_per_day: float
    joules: float
    meter_fault: str = ""
    refused: str = ""
    refused_for_energy: bool = False
    not_stored: str = ""
    interval: str = ""
    looks_at: str = ""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that keeps a round from starting: one of ``REASONS``, words, and a command that helps."""

    reason: str
    words: str
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NextStep:
    """What comes next.

    Attributes:
        obstacles: what keeps a round from starting, in the order of ``REASONS``; empty where nothing does.
        looks: when the service looks again, in words; "" where it does not by itself.
        command: what helps first, "" where nothing needs to be done.
        line: all of it in one line.
    """

    obstacles: tuple[Obstacle, ...]
    looks: str
    command: str
    line: str

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of the obstacles."""
        return tuple(each.reason for each in self.obstacles)


def next_step(facts: LearningFacts) -> NextStep:
    """What keeps the service from learning now, when it looks again, and the command that helps."""
    if facts.running:
        return NextStep(obstacles=(), looks="", command="", line=f"round {facts.running} runs")
    found = tuple(_obstacles(facts))
    looks = _looks(facts, {each.reason for each in found})
    command = found[0].command if found else ""
    words = (
        "; ".join(each.words for each in found) or "a round starts at the next look (`train-now`: at once)"
    )
    line = ", ".join(filter(None, (words, looks)))
    if command:
        line += f"; next: {command}"
    return NextStep(obstacles=found, looks=looks, command=command, line=line)


def _obstacles(facts: LearningFacts) -> Iterator[Obstacle]:
    """In the order of ``REASONS``."""
    yield from _of_samples(facts)
    if facts.paused:
        yield Obstacle("paused", "paused by the user", "dance-ondevice resume")
    if facts.joules_per_day <= 0.0:
        yield Obstacle(
            "no_budget",
            "the energy budget is 0 J a day",
            "set energy.budget_joules_per_day, then dance-ondevice config reload",
        )
    if facts.suspended:
        yield Obstacle("suspended", facts.suspended, _TRAIN)
    if facts.labelled:
        yield from _of_labels(facts)
    yield from _of_energy(facts)
    if not facts.window_open:
        yield Obstacle("window", f"outside the window {facts.window}", _TRAIN)
    if facts.refused and not facts.refused_for_energy and facts.enough:
        yield Obstacle("refused", facts.refused, _TRAIN)


def _of_samples(facts: LearningFacts) -> Iterator[Obstacle]:
    if facts.labelled:
        return
    still = ", and the live model is untrained: its masks mean nothing" if facts.untrained else ""
    if not facts.unlabelled and facts.not_stored:
        yield Obstacle("no_frames", f"no samples yet: frames come and are not stored{still}", _DOCTOR)
        return
    if not facts.unlabelled:
        yield Obstacle(
            "no_frames",
            f"no samples yet: frames with labels, or labels for them, are what is learnt from{still}",
            _STREAM,
        )
        return
    yield Obstacle("no_labels", f"labels 0: nothing can be learnt without them{still}", _EXPORT)


def _of_labels(facts: LearningFacts) -> Iterator[Obstacle]:
    if not facts.enough:
        to_label = _EXPORT if facts.unlabelled else _DOCTOR if facts.not_stored else _STREAM
        # A round that is asked for needs joules as well.
        ask = _ENERGY if facts.refused and facts.refused_for_energy else _TRAIN
        command = ask if facts.new_labelled else to_label
        yield Obstacle("few_labels", f"{facts.new_labelled} of {facts.needed} new labelled samples", command)
    if not facts.judging:
        yield Obstacle(
            "few_held_out",
            "no labelled sample is held out, by which a candidate could be judged; that takes labels by a "
            "person or labels that came with the frame",
            _EXPORT if facts.unlabelled else _STREAM,
        )


def _of_energy(facts: LearningFacts) -> Iterator[Obstacle]:
    if facts.joules_per_day > 0.0:
        if facts.refused and facts.refused_for_energy:
            yield Obstacle("no_joules", facts.refused, _ENERGY)
        elif facts.joules <= 0.0:
            yield Obstacle(
                "no_joules",
                f"no joules are left of {facts.joules_per_day:,.0f} J a day; more come as time passes",
                _ENERGY,
            )
    if facts.meter_fault:
        words = f"the energy meter gives no figure ({facts.meter_fault})"
        yield Obstacle("no_energy_meter", words, _DOCTOR)


def _looks(facts: LearningFacts, reasons: set[str]) -> str:
    if "paused" in reasons:
        return "no look before it is resumed"
    if "suspended" in reasons:
        return "no round starts by itself"
    every = f"every {facts.interval}" if facts.interval else ""
    if not facts.looks_at:
        return f"looks again {every}" if every else ""
    return f"looks again {facts.looks_at}" + (f" ({every})" if every else "")
