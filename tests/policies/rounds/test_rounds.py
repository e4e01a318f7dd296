from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.rounds.start import (
    Drifted,
    StartDecision,
    answered,
    in_window,
    needed_after_drift,
    parse_window,
    plan_round,
    should_start,
)
from dance_ondevice.policies.samples.splits import SampleInfo, Split


def sample(
    index: int, split: Split | None, rounds_used: int = 0, *, labelled: bool = True, time: float | None = None
) -> SampleInfo:
    return SampleInfo(
        id=f"s{index:04d}",
        camera="front",
        captured_at=float(index) if time is None else time,
        labelled=labelled,
        split=split,
        rounds_used=rounds_used,
    )


@st.composite
def stores(draw: st.DrawFn) -> list[SampleInfo]:
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["train", "train", "gate", "guard", None]),
                st.integers(0, 2),
                st.booleans(),
                st.floats(0, 100),
            ),
            max_size=80,
        )
    )
    return [
        sample(index, split, used, labelled=labelled, time=time)
        for index, (split, used, labelled, time) in enumerate(rows)
    ]


limits_strategy = st.fixed_dictionaries(
    {
        "max_samples": st.integers(1, 60),
        "rehearsal_share": st.sampled_from([0.0, 0.25, 0.5, 0.75]),
        "max_gate": st.integers(1, 20),
        "seed": st.integers(),
    }
)


@given(stores(), limits_strategy, st.randoms())
def test_a_plan_holds_its_limits_and_takes_only_what_it_may(
    store: list[SampleInfo], limits: dict[str, Any], order: random.Random
) -> None:
    limit, share, max_gate = limits["max_samples"], limits["rehearsal_share"], limits["max_gate"]
    got = plan_round(store, **limits)
    by_id = {s.id: s for s in store}
    fresh = [s for s in store if s.labelled and s.split == "train" and not s.rounds_used]
    used = [s for s in store if s.labelled and s.split == "train" and s.rounds_used]
    gate = [s for s in store if s.labelled and s.split == "gate"]
    assert {by_id[i] for i in got.train} <= set(fresh)
    assert {by_id[i] for i in got.rehearsal} <= set(used)
    assert {by_id[i] for i in got.gate} <= set(gate)
    total = len(got.train) + len(got.rehearsal)
    assert total <= limit
    assert len(got.rehearsal) <= share * total + 1e-9
    assert len(got.gate) == min(len(gate), max_gate)
    if fresh:
        assert got.train
    if share == 0.5 and fresh and len(fresh) + len(used) <= limit:
        assert len(got.train) == len(fresh)
        assert len(got.rehearsal) == min(len(used), len(fresh))
    assert got.ready == bool(fresh and gate)
    for group in (got.train, got.rehearsal, got.gate):
        assert len(set(group)) == len(group)
        assert list(group) == sorted(group, key=lambda i: (by_id[i].captured_at, i))
    shuffled = list(store)
    order.shuffle(shuffled)
    assert plan_round(shuffled, **limits) == got


def test_a_full_round_leaves_rehearsal_its_share_and_spreads_the_new_ones() -> None:
    store = [sample(i, "train", 1) for i in range(100)] + [sample(i, "train") for i in range(100, 300)]
    plan = plan_round([*store, sample(300, "gate")], max_samples=40, seed=1)
    assert (len(plan.train), len(plan.rehearsal), len(plan.gate)) == (20, 20, 1)
    places = [99, *(int(name[1:]) for name in plan.train), 300]
    assert all(later - earlier <= 20 for earlier, later in pairwise(places))
    assert plan.reason == (
        "20 of 200 new and 20 of 100 earlier samples to train on, 1 of 1 held-out samples to judge on"
    )


def test_an_odd_limit_is_not_exceeded() -> None:
    store = [sample(i, "train", 1) for i in range(9)] + [sample(i, "train") for i in range(9, 18)]
    plan = plan_round(store, max_samples=5, seed=0)
    assert (len(plan.train), len(plan.rehearsal)) == (3, 2)


def test_rehearsal_is_a_seeded_draw_from_all_earlier_samples() -> None:
    store = [sample(i, "train", 1) for i in range(50)] + [sample(i, "train") for i in range(50, 60)]
    drawn = [set(plan_round(store, max_samples=100, seed=seed).rehearsal) for seed in range(60)]
    assert all(len(each) == 10 for each in drawn)
    assert len(set.union(*drawn)) == 50
    assert drawn[0] == set(plan_round(store, max_samples=100, seed=0).rehearsal)


def test_a_models_label_trains_and_never_judges() -> None:
    store = [replace(sample(i, "train"), label_source="teacher") for i in range(4)]
    taught = [replace(sample(i, "gate"), label_source=source) for i, source in ((4, "teacher"), (5, "self"))]
    plan = plan_round([*store, *taught, sample(6, "gate")], max_samples=10, seed=0)
    assert (len(plan.train), plan.gate) == (4, ("s0006",))
    alone = plan_round([*store, *taught], max_samples=10, seed=0)
    assert not alone.ready
    assert "2 have a model's label only" in alone.reason

    # Where a person said so a teacher's label judges, and never beside a person's.
    taught_alone = plan_round([*store, *taught], max_samples=10, seed=0, teacher_judges=True)
    assert (taught_alone.gate, taught_alone.by_teacher) == (("s0004",), True)
    assert "by the teacher's labels" in taught_alone.reason
    beside = plan_round([*store, *taught, sample(6, "gate")], max_samples=10, seed=0, teacher_judges=True)
    assert (beside.gate, beside.by_teacher) == (("s0006",), False)


def test_a_full_round_takes_the_new_samples_that_are_worth_most() -> None:
    unsure = [replace(sample(i, "train"), uncertainty=0.9) for i in range(0, 40, 4)]
    sure = [replace(sample(i, "train"), uncertainty=0.1) for i in range(40) if i % 4]
    plan = plan_round([*unsure, *sure, sample(99, "gate")], max_samples=10, seed=0)
    assert set(plan.train) == {s.id for s in unsure}


def test_rehearsal_is_balanced_over_conditions() -> None:
    used = [replace(sample(i, "train", 1), condition="dusk" if i < 5 else "day") for i in range(60)]
    fresh = [sample(i, "train") for i in range(60, 70)]
    plan = plan_round([*used, *fresh, sample(99, "gate")], max_samples=99, seed=3)
    assert sum(name < "s0005" for name in plan.rehearsal) == 5 == len(plan.rehearsal) // 2


def test_gate_beyond_its_limit_is_half_newest_half_spread_over_the_old() -> None:
    store = [sample(i, "gate") for i in range(100)] + [sample(100, "train")]
    plan = plan_round(store, max_samples=8, seed=0, max_gate=10)
    assert plan.gate[-5:] == tuple(f"s{i:04d}" for i in range(95, 100))
    assert plan.gate[:5] == tuple(f"s{i:04d}" for i in (18, 37, 56, 75, 94))


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        ([], "no labelled samples yet: nothing to learn"),
        ([sample(0, None, labelled=False)], "no labelled samples yet: nothing to learn"),
        (
            [sample(0, "train", 1), sample(1, "gate")],
            "no new samples to train on: 2 labelled samples, 1 trained before",
        ),
        ([sample(0, "train")], "no held-out samples yet among 1 labelled sample to judge a candidate on"),
    ],
)
def test_a_plan_that_makes_no_sense_says_why(store: list[SampleInfo], reason: str) -> None:
    plan = plan_round(store, max_samples=10, seed=0)
    assert not plan.ready
    assert plan.reason == reason


@pytest.mark.parametrize(
    "wrong", [{"max_samples": 0}, {"max_gate": 0}, {"rehearsal_share": 1.0}, {"rehearsal_share": -0.1}]
)
def test_plan_refuses_impossible_limits(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be 1 or more|less than 1"):
        plan_round([], **({"max_samples": 10, "seed": 0} | wrong))


def start(**changes: Any) -> StartDecision:
    usual: dict[str, Any] = {
        "new_labelled": 64,
        "min_new_samples": 64,
        "paused": False,
        "window_open": True,
        "forced": False,
    }
    return should_start(**(usual | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"new_labelled": 3}, "3 of 64 new labelled samples"),
        ({"new_labelled": 0}, "0 of 64 new labelled samples"),
        ({"new_labelled": 0, "min_new_samples": 0}, "0 of 1 new labelled samples"),
        ({"new_labelled": 0, "forced": True}, "0 of 1 new labelled samples"),
        ({"paused": True}, "paused"),
        ({"paused": True, "forced": True}, "paused"),
        ({"window_open": False}, "outside the training window"),
        ({"window_open": False, "window": "01:00-05:00"}, "outside the window 01:00-05:00"),
        (
            {"window_open": False, "window": "01:00-05:00", "new_labelled": 3},
            "outside the window 01:00-05:00; 3 of 64 new labelled samples",
        ),
    ],
)
def test_no_round_starts_and_all_that_is_in_the_way_is_said(changes: dict[str, object], reason: str) -> None:
    assert start(**changes) == StartDecision(False, reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "64 new labelled samples, at least 64 asked for"),
        (
            {"forced": True, "new_labelled": 1, "window_open": False},
            "1 new labelled sample, asked for by the user",
        ),
    ],
)
def test_a_round_starts(changes: dict[str, object], reason: str) -> None:
    assert start(**changes) == StartDecision(True, reason)


NORTH = Drifted(camera="north", signals=("luma", "contrast"), new_labelled=9)
SOUTH = Drifted(camera="south", signals=("tint",), new_labelled=3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "drift of luma, contrast on camera north, and 9 new labelled samples since"),
        (
            {"drifted": (SOUTH, NORTH)},
            "drift of luma, contrast on camera north, and 9 new labelled samples since",
        ),
        (
            {"drifted": (SOUTH, NORTH), "min_after_drift": 3},
            "drift of tint on camera south, and 3 new labelled samples since; "
            "drift of luma, contrast on camera north, and 9 new labelled samples since",
        ),
        (
            {"new_labelled": 36},
            "36 new labelled samples, at least 36 asked for; drift of luma, contrast on camera north",
        ),
    ],
)
def test_drift_starts_a_round_with_fewer_samples(changes: dict[str, object], reason: str) -> None:
    usual: dict[str, Any] = {"min_new_samples": 36, "new_labelled": 12, "drifted": (NORTH,)}
    assert start(**(usual | changes)) == StartDecision(True, reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"drifted": (SOUTH, NORTH), "min_after_drift": 10},
            "12 of 36 new labelled samples, or 9 of 10 since drift of luma, contrast on camera north",
        ),
        ({"drifted": ()}, "12 of 36 new labelled samples"),
        ({"paused": True}, "paused"),
        ({"window_open": False}, "outside the training window"),
        ({"forced": True, "new_labelled": 0, "drifted": (SOUTH,)}, "0 of 1 new labelled samples"),
    ],
)
def test_drift_alone_is_not_enough(changes: dict[str, object], reason: str) -> None:
    usual: dict[str, Any] = {"min_new_samples": 36, "new_labelled": 12, "drifted": (NORTH,)}
    assert start(**(usual | changes)) == StartDecision(False, reason)


@given(st.integers(0, 1_000_000), st.integers(0, 1_000_000))
def test_after_drift_no_more_is_asked_for_than_usual_and_never_nothing(usual: int, configured: int) -> None:
    assert 1 <= needed_after_drift(usual, configured) <= max(1, usual)


@pytest.mark.parametrize(("usual", "needed"), [(64, 16), (65, 17), (10, 4), (3, 3), (0, 1)])
def test_after_drift_a_quarter_is_asked_for(usual: int, needed: int) -> None:
    assert needed_after_drift(usual) == needed


def test_a_round_answers_the_drift_that_it_has_samples_of() -> None:
    assert answered([NORTH, SOUTH], 9) == ("north",)
    assert answered([NORTH, SOUTH], 10) == ()


@pytest.mark.parametrize(
    ("window", "minutes", "is_open"),
    [
        ("", 0, True),
        ("01:00-05:00", 59, False),
        ("01:00-05:00", 60, True),
        ("01:00-05:00", 299, True),
        ("01:00-05:00", 300, False),
        ("22:30-05:00", 22 * 60 + 29, False),
        ("22:30-05:00", 22 * 60 + 30, True),
        ("22:30-05:00", 0, True),
        ("22:30-05:00", 300, False),
        ("00:00-24:00", 1439, True),
        ("12:00-24:00", 0, False),
        ("12:00-00:00", 1439, True),
    ],
)
def test_in_window(window: str, minutes: int, is_open: bool) -> None:
    assert in_window(window, minutes) is is_open


@given(st.integers(0, 1439), st.integers(0, 1439))
def test_a_window_is_open_for_as_long_as_it_lasts(opens: int, closes: int) -> None:
    if opens == closes:
        return
    window = f"{opens // 60:02d}:{opens % 60:02d}-{closes // 60:02d}:{closes % 60:02d}"
    assert parse_window(window) == (opens, closes)
    assert sum(in_window(window, minute) for minute in range(1440)) == (closes - opens) % 1440


@pytest.mark.parametrize(
    "window",
    [
        "1:00-5:00",
        "01:00",
        "01:00-05:60",
        "25:00-05:00",
        "24:00-05:00",
        "01:00-24:01",
        "01:00-01:00",
        "always",
    ],
)
def test_a_window_written_otherwise_is_refused(window: str) -> None:
    with pytest.raises(ValueError, match=f"the window is '{window}'"):
        in_window(window, 0)


@pytest.mark.parametrize("minutes", [-1, 1440])
def test_there_is_no_such_minute(minutes: int) -> None:
    with pytest.raises(ValueError, match="give 0 to 1439"):
        in_window("", minutes)
