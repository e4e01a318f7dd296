"""Conditions are opened by many frames and never by one, chosen without flicker, and bounded in number."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dance_ondevice.policies.stream.conditions import (
    BASE,
    FIGURES,
    CameraState,
    Condition,
    ConditionRules,
    State,
    Step,
    distance,
    founded,
    log_likelihood,
    observe,
)

RULES = ConditionRules()
#: Centres, in units of what varies anyway, far enough apart to be told apart.
DAY, DUSK, RAIN, NIGHT = 0.0, 5.0, 10.0, 15.0
seeds = st.integers(0, 2**32)


def frame(place: float, draw: random.Random | None = None, spread: float = 0.5) -> dict[str, float]:
    """A frame of the condition whose centre lies ``place`` units off in one figure."""
    noise = {name: draw.gauss(0, spread) if draw else 0.0 for name in FIGURES}
    return {
        name: 0.5 + unit * (noise[name] + (place if name == "luma" else 0.0))
        for name, unit in FIGURES.items()
    }


def run(
    places: Iterable[float],
    *,
    rules: ConditionRules = RULES,
    state: State | None = None,
    camera: str = "front",
    drift: bool | Iterable[int] = True,
    draw: random.Random | None = None,
) -> tuple[State, list[Step]]:
    """Feed frames; ``drift`` is true for all of them, false for all, or true for those numbers."""
    state, steps = state or State(), []
    for number, place in enumerate(places):
        fires = drift if isinstance(drift, bool) else number in drift
        state, step = observe(rules, state, camera, frame(place, draw), drift=fires)
        steps.append(step)
    return state, steps


def names(state: State) -> list[str]:
    return [condition.name for condition in state.conditions]


def test_day_dusk_and_day_again() -> None:
    draw = random.Random(0)
    state, steps = run([DAY] * 40 + [DUSK] * 40 + [DAY] * 40, drift={41, 81}, draw=draw)
    assert names(state) == [BASE, "c1"]
    assert [step.condition for step in steps[:40]] == [BASE] * 40
    opened = [number for number, step in enumerate(steps) if step.opened]
    assert opened == [40 + RULES.min_frames - 1]
    switches = [number for number, step in enumerate(steps) if step.switched]
    assert switches == [opened[0], 80 + RULES.switch_frames - 1]
    # Known by now: back at dusk within a few frames and without a new condition.
    state, steps = run([DUSK] * 20, state=state, draw=draw)
    assert [step.condition for step in steps] == [BASE] * (RULES.switch_frames - 1) + ["c1"] * 18
    assert names(state) == [BASE, "c1"]


def test_without_an_alarm_nothing_is_opened() -> None:
    state, _ = run([DAY] * 40, drift=False)
    state, steps = run([DUSK] * 100, state=state, drift=False)
    assert names(state) == [BASE]
    assert all(step.strange for step in steps)
    _, steps = run([DUSK], state=state, drift=True)
    assert steps[0].opened == "c1"


def test_an_alarm_that_a_known_condition_explains_is_spent() -> None:
    state, _ = run([DAY] * 60, drift={20})
    state, _ = run([DUSK] * 60, state=state, drift=False)
    assert names(state) == [BASE]


@settings(max_examples=50)
@given(seeds, st.integers(4, 24), st.integers(1, 3), st.floats(5.0, 1000.0))
def test_odd_frames_never_open_a_condition(seed: int, min_frames: int, every: int, place: float) -> None:
    rules = ConditionRules(min_frames=min_frames)
    state, _ = run([DAY] * max(20, min_frames), rules=rules, draw=random.Random(seed))
    # Up to every other frame is odd, all in the same way, and the detector never stops firing.
    places = [place if number % (every + 1) == 0 else DAY for number in range(120)]
    state, steps = run(places, rules=rules, state=state, draw=random.Random(seed + 1))
    assert names(state) == [BASE]
    assert {step.condition for step in steps} == {BASE}


@settings(max_examples=30)
@given(seeds)
def test_frames_that_do_not_agree_open_nothing(seed: int) -> None:
    draw = random.Random(seed)
    state, _ = run([DAY] * 40, draw=draw)
    state, _ = run([draw.uniform(10, 500) for _ in range(100)], state=state)
    assert names(state) == [BASE]


def test_a_few_that_disagree_do_not_keep_it_closed_nor_move_its_centre() -> None:
    state, _ = run([DAY] * 40)
    state, steps = run([DUSK] * 7 + [400.0] + [DUSK] * 8, state=state)
    assert steps[-1].opened == "c1"
    assert state.conditions[1].frames == 15
    assert state.conditions[1].mean[0] == pytest.approx(0.5 + DUSK * FIGURES["luma"])


@settings(max_examples=60)
@given(st.lists(st.sampled_from([DAY, DUSK, RAIN, NIGHT, 2.5]), max_size=200), seeds, st.integers(1, 5))
def test_any_stream_keeps_its_promises(places: list[float], seed: int, most: int) -> None:
    rules = ConditionRules(most=most, min_frames=4)
    draw, state, steps = random.Random(seed), State(), []
    for place in places:
        camera = draw.choice(["front", "rear"])
        before = state
        state, step = observe(rules, state, camera, frame(place, draw), drift=draw.random() < 0.2)
        steps.append((camera, step))
        known = names(state)
        assert len(known) == len(set(known)) <= most
        assert known[0] == BASE
        assert {c.current for c in state.cameras.values()} <= set(known)
        assert {c.challenger for c in state.cameras.values()} <= {*known, ""}
        assert step.condition == state.cameras[camera].current
        if step.opened:
            assert int(step.opened[1:]) == state.opened == before.opened + 1
        gone = set(names(before)) - set(known)
        assert gone == {n for n in (step.dropped, step.merged[0] if step.merged else "") if n}
    for name in ("front", "rear"):
        own = [(number, step) for number, (camera, step) in enumerate(s for s in steps if s[0] == name)]
        switched = [number for number, step in own if step.switched and not step.opened]
        # No flicker: as many frames as a switch takes lie between two of them.
        assert all(b - a >= rules.switch_frames for a, b in pairwise(switched))


@settings(max_examples=30)
@given(seeds, st.sampled_from([[DAY, DUSK], [DAY, DAY, DUSK, DUSK], [DAY, 500.0, DUSK, 500.0]]))
def test_alternating_frames_do_not_flicker(seed: int, pattern: list[float]) -> None:
    draw = random.Random(seed)
    state, _ = run([DAY] * 30 + [DUSK] * 30, draw=draw)
    assert state.cameras["front"].current == "c1"
    _, steps = run(pattern * 20, state=state, drift=False, draw=draw)
    assert not any(step.switched for step in steps)


def test_a_dusk_that_comes_slowly_does_not_pull_the_day_along() -> None:
    draw = random.Random(5)
    slowly = [DUSK * 2 * number / 600 for number in range(600)]
    state, _ = run([DAY] * RULES.settle_base_frames + slowly + [DUSK * 2] * 40, draw=draw)
    assert len(state.conditions) >= 2
    assert state.conditions[0].mean[0] == pytest.approx(0.5, abs=FIGURES["luma"])
    assert state.cameras["front"].current != BASE


def test_the_least_used_makes_room_but_never_base_nor_one_in_use() -> None:
    rules = ConditionRules(most=3, min_frames=4)
    state, _ = run([DAY] * 20 + [DUSK] * 40 + [RAIN] * 10, rules=rules)
    assert names(state) == [BASE, "c1", "c2"]
    state, steps = run([NIGHT] * 8, rules=rules, state=state)
    # c1 has served more frames than c2, which a camera is in: it is not free to go.
    assert [step.dropped for step in steps if step.opened] == ["c1"]
    assert names(state) == [BASE, "c2", "c3"]
    in_use = ConditionRules(most=1, min_frames=4)
    state, steps = run([DAY] * 20 + [DUSK] * 40, rules=in_use)
    assert names(state) == [BASE]
    assert not any(step.opened for step in steps)


def test_lights_of_another_season_give_way_to_those_that_come_every_day() -> None:
    rules = ConditionRules(most=4, min_frames=4)
    state, opened = State(), []
    winter, summer = [DAY, DUSK, RAIN, NIGHT], [DAY, NIGHT + 5.0, DAY, NIGHT + 10.0]
    for day in [winter] * 60 + [summer] * 20:
        for light in day:
            state, steps = run([light] * 10, rules=rules, state=state)
            opened.append(any(step.opened for step in steps))
    assert not any(opened[-10 * len(summer) :]), "each has its place by now, and takes that of no other"


def at(name: str, place: float, frames: int, uses: int = 0) -> Condition:
    """A condition of a usual spread."""
    figures = frame(place)
    squares = tuple(frames * unit**2 for unit in FIGURES.values())
    return Condition(
        name=name, frames=frames, mean=tuple(figures[f] for f in FIGURES), squares=squares, uses=uses
    )


@pytest.mark.parametrize(("apart", "merged"), [(1.8, True), (2.2, False)])
def test_conditions_that_agree_are_merged_into_the_older(apart: float, merged: bool) -> None:
    state = State(
        conditions=(at(BASE, DAY - 5, 64, 100), at("c1", DUSK, 64, 10), at("c2", DUSK + apart, 20, 5)),
        cameras={"front": CameraState(current="c2", alarmed=False), "rear": CameraState(current="c1")},
        founder="front",
        opened=2,
    )
    state, steps = run([DUSK + apart] * 8, state=state, drift=False)
    assert [step.merged for step in steps] == [("c2", "c1") if merged else None, *[None] * 7]
    assert names(state) == [BASE, "c1"] if merged else [BASE, "c1", "c2"]
    assert state.cameras["front"].current == ("c1" if merged else "c2")
    assert state.conditions[1].uses == (23 if merged else 10)


def test_a_wide_condition_does_not_swallow_a_narrow_one() -> None:
    wide = at(BASE, DAY, 400)
    wide = replace(wide, squares=tuple(9 * square for square in wide.squares))
    state = State(
        conditions=(wide, at("c1", 4.0, 64)),
        cameras={"front": CameraState(current="c1", alarmed=False)},
        founder="front",
        opened=1,
    )
    state, steps = run([4.0] * 40, state=state, drift=False, draw=random.Random(2))
    assert {step.condition for step in steps} == {"c1"}


def likelier_by(state: State, place: float) -> float:
    """By how much a frame is likelier in base than in the other condition."""
    vector = tuple(frame(place)[name] for name in FIGURES)
    return log_likelihood(state.conditions[0], vector) - log_likelihood(state.conditions[1], vector)


def test_base_wins_where_it_is_as_likely() -> None:
    # Learnt to the end, so that what is shown moves neither.
    state = State(
        conditions=(at(BASE, DAY, RULES.settle_base_frames), at("c1", DUSK, RULES.settle_frames)),
        cameras={"front": CameraState(current="c1", alarmed=False)},
        founder="front",
        opened=1,
    )
    places = [DUSK * number / 1000 for number in range(1001)]
    # A little likelier in base than in dusk: enough to go home, and not enough to leave it.
    home = next(p for p in places if likelier_by(state, p) < 0.9 * RULES.margin)
    assert likelier_by(state, home) > 0
    state, _ = run([home] * 5, state=state, drift=False)
    assert state.cameras["front"].current == BASE
    away = next(p for p in places if likelier_by(state, p) < -0.9 * RULES.margin)
    assert likelier_by(state, away) > -RULES.margin
    state, _ = run([away] * 5, state=state, drift=False)
    assert state.cameras["front"].current == BASE
    gone = next(p for p in places if likelier_by(state, p) < -1.1 * RULES.margin)
    state, _ = run([gone] * 5, state=state, drift=False)
    assert state.cameras["front"].current == "c1"


def test_a_day_that_comes_back_darker_is_no_dusk_and_leaves_the_dusk_as_it_was() -> None:
    # A day of many lights, a dusk that is always the same, and a day again on the dark side of the first.
    day, dusk = at(BASE, DAY, 200), at("c1", -8.5, 40)
    state = State(
        conditions=(
            replace(day, squares=(2.5**2 * day.squares[0], *day.squares[1:])),
            replace(dusk, squares=tuple(square / 4 for square in dusk.squares)),
        ),
        cameras={"front": CameraState(current="c1", alarmed=False)},
        founder="front",
        opened=1,
    )
    state, steps = run([-5.6] * 60, state=state, drift=False, draw=random.Random(4))
    assert [step.condition for step in steps[RULES.switch_frames - 1 :]] == [BASE] * 58
    assert state.conditions[1].mean == dusk.mean


@settings(max_examples=50)
@given(seeds, st.floats(-12.0, 12.0), st.sampled_from([BASE, "c1"]))
def test_only_what_is_clearly_its_own_moves_a_condition(seed: int, place: float, current: str) -> None:
    rules = ConditionRules(most=2)
    before = State(
        conditions=(at(BASE, 0.0, 64), at("c1", DUSK, 20)),
        cameras={"front": CameraState(current=current, alarmed=False)},
        founder="front",
        opened=1,
    )
    state, draw = before, random.Random(seed)
    for _ in range(30):
        shown = frame(place, draw)
        vector = tuple(shown[name] for name in FIGURES)
        known = state.conditions
        state, step = observe(rules, state, "front", shown, drift=False)
        if len(state.conditions) < len(known):
            return  # merged: what stays is the older one
        likely = [log_likelihood(condition, vector) for condition in known]
        for index, (old, new) in enumerate(zip(known, state.conditions, strict=True)):
            if old.frames == new.frames:
                assert old.mean == new.mean
                continue
            assert new.name == step.condition
            other = known[1 - index]
            margin = 0.0 if index == 0 else rules.margin
            assert distance(old, vector) <= rules.fit
            if distance(other, vector) <= rules.fit:
                assert likely[index] > likely[1 - index] + margin


def test_of_two_places_as_far_in_their_own_spreads_the_narrow_one_is_likelier() -> None:
    narrow, wide = at("narrow", DAY, 400), at("wide", DAY, 400)
    wide = replace(wide, squares=tuple(9 * square for square in wide.squares))
    middle = narrow.mean
    assert distance(narrow, middle) == distance(wide, middle) == 0
    assert log_likelihood(narrow, middle) > log_likelihood(wide, middle) + 4


def test_what_an_earlier_version_wrote_is_gone_on_with() -> None:
    written = b"""{"conditions": [
        {"name": "base", "parent": "base", "frames": 64, "mean": [0.5, 0.5, 0.5, 0.5, 0.5],
         "squares": [0.1, 0.04, 0.01, 0.006, 0.16], "uses": 90},
        {"name": "c1", "parent": "base", "frames": 20, "mean": [0.26, 0.5, 0.5, 0.5, 0.5],
         "squares": [0.03, 0.01, 0.004, 0.002, 0.05], "uses": 30}],
        "cameras": {"front": {"current": "c1", "challenger": "base", "streak": 1, "strange": [],
                              "alarmed": false, "calm": 9}},
        "founder": "front", "opened": 1}"""
    state = msgspec.json.decode(written, type=State)
    assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state
    state, steps = run([DAY] * 5, state=state, drift=False)
    assert [step.condition for step in steps] == ["c1", *[BASE] * 4]
    assert state.conditions[1].mean == (0.26, 0.5, 0.5, 0.5, 0.5)


def test_base_is_founded_on_all_frames_of_its_domain_in_any_order() -> None:
    # Two drives of different lights, one after the other: the second would be strange to the first alone.
    frames = [frame(place, random.Random(number)) for number, place in enumerate([DAY] * 40 + [NIGHT] * 40)]
    state = founded(frames, "known")
    again = founded(frames[::-1], "known")
    assert names(state) == [BASE]
    assert state.conditions[0].frames == 80
    assert state.conditions[0].mean == pytest.approx(again.conditions[0].mean)
    state, step = observe(RULES, state, "front", frames[-1], drift=True)
    assert (step.condition, step.strange) == (BASE, False)


def test_cameras_share_conditions_but_not_where_they_are() -> None:
    draw = random.Random(2)
    state, _ = run([DAY] * 40 + [DUSK] * 40, draw=draw)
    state, steps = run([DUSK] * 10, state=state, camera="rear", drift=False, draw=draw)
    assert steps[-1].condition == "c1"
    assert names(state) == [BASE, "c1"]
    state, _ = run([DAY] * 10, state=state, drift=False, draw=draw)
    assert {name: camera.current for name, camera in state.cameras.items()} == {"front": BASE, "rear": "c1"}


def test_a_new_camera_that_fits_nothing_needs_no_alarm() -> None:
    state, _ = run([DAY] * 40)
    state, _ = run([NIGHT] * 16, state=state, camera="tunnel", drift=False)
    assert state.cameras["tunnel"].current == "c1"


def test_spreads_are_drawn_to_the_usual_while_frames_are_few() -> None:
    off = tuple(frame(3.0)[name] for name in FIGURES)

    def seen(frames: int, spread: float) -> float:
        squares = tuple(frames * (spread * unit) ** 2 for unit in FIGURES.values())
        condition = replace(at(BASE, DAY, frames), squares=squares)
        return 3.0 / distance(condition, off)

    assert seen(1, 0.0) == pytest.approx((16 / 17) ** 0.5)
    assert seen(16, 2.0) == pytest.approx(2.5**0.5)
    assert seen(100_000, 2.0) == pytest.approx(2.0, rel=1e-3)
    # However long a camera stands still, it is never held to less than half of the usual.
    assert seen(100_000, 0.0) == pytest.approx(0.5)


@pytest.mark.parametrize("figures", [{}, frame(0.0) | {"luma": float("nan")}])
def test_frames_without_figures_are_refused(figures: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="luma"):
        observe(RULES, State(), "front", figures, drift=False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"most": 0}, "most is 0"),
        ({"min_frames": 3}, "min_frames is 3"),
        ({"switch_frames": 1}, "switch_frames is 1"),
        ({"merge": 9.0}, "0 < merge < fit"),
    ],
)
def test_impossible_rules_say_what_is_allowed(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ConditionRules(**values)
