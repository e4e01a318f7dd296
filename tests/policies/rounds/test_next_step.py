"""What keeps the service from learning is said in one line, with the command that helps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.rounds.next_step import REASONS, LearningFacts, next_step

#: Nothing is in the way.
READY = LearningFacts(
    labelled=80,
    unlabelled=10,
    untrained=False,
    new_labelled=64,
    needed=64,
    enough=True,
    judging=12,
    joules_per_day=20_000.0,
    joules=15_000.0,
    interval="30m",
    looks_at="11:34",
)
WORDS = st.text("abc ", max_size=8)

facts = st.builds(
    LearningFacts,
    labelled=st.integers(0, 3),
    unlabelled=st.integers(0, 3),
    untrained=st.booleans(),
    running=st.sampled_from(["", "r1"]),
    new_labelled=st.integers(0, 70),
    needed=st.integers(1, 64),
    enough=st.booleans(),
    judging=st.integers(0, 2),
    paused=st.booleans(),
    suspended=st.sampled_from(["", "suspended: it does not help"]),
    window=st.just("01:00-05:00"),
    window_open=st.booleans(),
    joules_per_day=st.sampled_from([0.0, 20_000.0]),
    joules=st.sampled_from([-5.0, 0.0, 100.0]),
    meter_fault=st.sampled_from(["", "board: no such file"]),
    refused=st.sampled_from(["", "too little to gain"]),
    refused_for_energy=st.booleans(),
    not_stored=st.sampled_from(("", "the disk is full")),
    interval=st.sampled_from(["", "30m"]),
    looks_at=st.sampled_from(["", "11:34"]),
)


@given(facts)
def test_it_is_one_line_of_known_reasons_in_their_order(known: LearningFacts) -> None:
    step = next_step(known)
    assert step.line
    assert "\n" not in step.line
    assert set(step.reasons) <= set(REASONS)
    assert list(step.reasons) == sorted(step.reasons, key=REASONS.index)
    assert len(set(step.reasons)) == len(step.reasons)
    assert all(each.words in step.line for each in step.obstacles)
    assert step.command in step.line
    if known.running:
        assert step.reasons == ()


@given(facts)
def test_every_obstacle_comes_with_what_helps(known: LearningFacts) -> None:
    step = next_step(known)
    assert all(each.command for each in step.obstacles)
    assert step.command == (step.obstacles[0].command if step.obstacles else "")


@given(facts)
def test_without_labels_it_says_that_nothing_is_learnt_without_them(known: LearningFacts) -> None:
    step = next_step(replace(known, labelled=0, unlabelled=5, running=""))
    assert step.reasons[0] == "no_labels"
    assert "nothing can be learnt without them" in step.line
    assert "samples export --for-labelling" in step.command


@given(facts)
def test_it_never_says_that_a_round_starts_while_something_is_in_the_way(known: LearningFacts) -> None:
    step = next_step(replace(known, running=""))
    assert ("a round starts" in step.line) == (not step.obstacles)


def test_nothing_is_in_the_way() -> None:
    step = next_step(READY)
    assert step.reasons == ()
    assert step.command == ""
    assert (
        step.line == "a round starts at the next look (`train-now`: at once), looks again 11:34 (every 30m)"
    )


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"labelled": 0, "unlabelled": 0}, "no_frames", "stream SOURCE"),
        ({"labelled": 0, "unlabelled": 0, "not_stored": "the disk is full"}, "no_frames", "ondevice doctor"),
        ({"paused": True}, "paused", "next: dance-ondevice resume"),
        ({"joules_per_day": 0.0, "joules": 0.0}, "no_budget", "energy.budget_joules_per_day"),
        ({"suspended": "suspended: no help"}, "suspended", "no round starts by itself"),
        ({"new_labelled": 12, "enough": False}, "few_labels", "12 of 64 new labelled samples"),
        ({"new_labelled": 0, "enough": False}, "few_labels", "next: dance-ondevice samples export"),
        ({"new_labelled": 0, "enough": False, "unlabelled": 0}, "few_labels", "stream SOURCE"),
        (
            {"new_labelled": 0, "enough": False, "unlabelled": 0, "not_stored": "the disk is full"},
            "few_labels",
            "dance-ondevice doctor",
        ),
        ({"judging": 0}, "few_held_out", "held out"),
        ({"joules": 0.0}, "no_joules", "no joules are left"),
        ({"refused": "9 J are left", "refused_for_energy": True}, "no_joules", "9 J are left"),
        ({"meter_fault": "board: gone"}, "no_energy_meter", "dance-ondevice doctor"),
        ({"window": "01:00-05:00", "window_open": False}, "window", "outside the window 01:00-05:00"),
        ({"refused": "too little to gain"}, "refused", "too little to gain"),
    ],
)
def test_each_reason_alone(change: dict[str, object], reason: str, words: str) -> None:
    step = next_step(replace(READY, **change))
    assert step.reasons == (reason,)
    assert words in step.line


def test_who_asked_for_a_round_that_joules_do_not_pay_for_is_not_sent_to_ask_again() -> None:
    step = next_step(
        replace(READY, new_labelled=12, enough=False, refused="9 J are left", refused_for_energy=True)
    )
    assert step.reasons == ("few_labels", "no_joules")
    assert step.command == "dance-ondevice energy"


def test_an_untrained_model_is_mentioned_where_nothing_can_change_it() -> None:
    step = next_step(replace(READY, labelled=0, untrained=True))
    assert "untrained: its masks mean nothing" in step.line
