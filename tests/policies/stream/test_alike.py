"""What is new is kept, what repeats is not, and no light loses more than its share to another."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate, groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dance_ondevice.policies.samples import similarity
from dance_ondevice.policies.stream import lights, repeats
from dance_ondevice.policies.stream.data_slimming import CHOICES, Choice, Decision, SlimmingRules, decide
from dance_ondevice.policies.stream.repeats import Picture
from dance_ondevice.policies.stream.stream_state import FrameFigures, StreamState, initial_state

DAY, DUSK, NIGHT = (0.5, 0.28), (0.25, 0.2), (0.1, 0.08)


def stream(rules: SlimmingRules, frames: Sequence[FrameFigures]) -> tuple[StreamState, list[Decision]]:
    state, decisions = initial_state("front"), []
    for frame in frames:
        state, decision = decide(rules, state, frame)
        decisions.append(decision)
    return state, decisions


def frames(count: int, light: tuple[float, float], seed: int = 0, **more: object) -> list[FrameFigures]:
    """Frames of a light; their scores fall with it, so that ranks over all lights would drop the dark."""
    draw = random.Random(seed)
    return [
        FrameFigures(
            score=light[0] / 10 + draw.uniform(0, 0.01),
            luma=draw.gauss(light[0], 0.01),
            contrast=draw.gauss(light[1], 0.005),
            **more,  # type: ignore[arg-type]
        )
        for _ in range(count)
    ]


figures = st.builds(
    FrameFigures,
    score=st.floats(0, 1),
    luma=st.sampled_from([0.1, 0.3, 0.5, 0.9]),
    contrast=st.sampled_from([0.05, 0.2]),
    condition=st.sampled_from(["", "base", "c1"]),
)


@given(
    st.builds(
        SlimmingRules,
        drop_fraction=st.floats(0, 0.95),
        choice=st.sampled_from(CHOICES),
        warmup_frames=st.integers(0, 4),
        window_frames=st.integers(1, 16),
    ),
    st.lists(figures, max_size=80),
    st.integers(1, 40),
)
def test_no_run_of_frames_and_no_kind_ever_loses_more_than_its_share(
    rules: SlimmingRules, found: list[FrameFigures], span: int
) -> None:
    _, decisions = stream(rules, found)
    by_kind: dict[tuple[str, float, float], list[bool]] = {}
    for frame, decision in zip(found, decisions, strict=True):
        by_kind.setdefault((frame.condition, frame.luma, frame.contrast), []).append(not decision.keep)
    for gone in [[not decision.keep for decision in decisions], *by_kind.values()]:
        for start in range(len(gone)):
            among = gone[start : start + span]
            assert sum(among) < rules.drop_fraction * len(among) + 2
    for gone in by_kind.values():
        assert not any(gone[: rules.warmup_frames])
        assert sum(gone) <= rules.drop_fraction * len(gone) + 1e-9


@settings(max_examples=30)
@given(
    st.sampled_from(CHOICES),
    st.lists(st.tuples(st.sampled_from([DAY, DUSK, NIGHT]), st.integers(1, 40)), min_size=1, max_size=12),
    st.integers(0, 3),
)
def test_of_any_hundred_frames_after_any_change_a_third_goes_at_most(
    choice: Choice, drives: list[tuple[tuple[float, float], int]], seed: int
) -> None:
    """Short drives one after the other, and the frames of each light alone."""
    rules = SlimmingRules(choice=choice, seed=seed)
    found = [frame for n, (light, count) in enumerate(drives) for frame in frames(count, light, seed + n)]
    _, decisions = stream(rules, found)
    by_light: dict[str, list[bool]] = {}
    for decision in decisions:
        by_light.setdefault(decision.condition, []).append(not decision.keep)
    for gone in [[not decision.keep for decision in decisions], *by_light.values()]:
        dropped = [0, *accumulate(gone)]
        most = 100 * (rules.drop_fraction + 0.05)
        assert all(later - sooner <= most for sooner, later in zip(dropped, dropped[100:], strict=False))
        assert dropped[min(100, len(gone))] <= most


@pytest.mark.parametrize("choice", CHOICES)
def test_a_dusk_after_a_day_is_kept_like_the_day(choice: Choice) -> None:
    rules = SlimmingRules(choice=choice)
    _, decisions = stream(rules, [*frames(204, DAY), *frames(100, DUSK, 1), *frames(200, DAY, 2)])
    dusk = decisions[204:304]
    assert sum(not decision.keep for decision in dusk) <= 35
    assert all((d.keep, d.scale, d.weight) == (True, 1.0, 1.0) for d in dusk[: rules.warmup_frames])
    assert {decision.condition for decision in dusk} == {"light2"}
    # Ranked among its like, a dusk has frames of every scale and is dropped from, too.
    assert {decision.scale for decision in dusk if decision.keep} == set(rules.scales)
    assert sum(not decision.keep for decision in dusk) >= 15
    # The day that comes back is known.
    assert not any("warm-up" in decision.reason for decision in decisions[304:])


def test_a_new_condition_has_ranks_of_its_own_from_its_first_frame() -> None:
    rules = SlimmingRules()
    _, decisions = stream(rules, [*frames(100, DAY, condition="base"), *frames(40, DAY, 1, condition="c1")])
    fresh = decisions[100:]
    assert all(d.keep and "warm-up" in d.reason for d in fresh[: rules.warmup_frames])
    assert {decision.condition for decision in fresh} == {"c1"}


def test_scores_of_another_fit_are_not_ranked_among_those_before() -> None:
    rules = SlimmingRules(drop_fraction=0.0)
    before, after = frames(100, DAY), frames(40, DAY, 1, scored_by="round 1")
    _, decisions = stream(rules, [*before, *after])
    assert decisions[100].keep
    assert "the first frame of its kind (light1) to be scored by what the model has now learnt" in (
        decisions[100].reason
    )
    assert "of the last 39 frames of its kind" in decisions[139].reason


def test_frames_with_a_label_are_never_dropped_and_cost_the_others_nothing() -> None:
    rules = SlimmingRules(drop_fraction=0.9, warmup_frames=0)
    labelled = frames(100, DAY, label="a label")
    bare = frames(100, DAY, 1)
    mixed = [frame for pair in zip(labelled, bare, strict=True) for frame in pair]
    _, decisions = stream(rules, mixed)
    assert all(decision.keep for decision in decisions[::2])
    assert "it has a label" in decisions[-2].reason
    assert sum(not decision.keep for decision in decisions[1::2]) == pytest.approx(90, abs=2)


def pictures(codes: Sequence[int], **more: object) -> list[FrameFigures]:
    return [FrameFigures(score=0.5, code=code, **more) for code in codes]  # type: ignore[arg-type]


def test_copies_of_one_picture_are_kept_ever_more_rarely() -> None:
    state, decisions = stream(SlimmingRules(drop_fraction=0.0), pictures([0b1111] * 601))
    kept = [number for number, decision in enumerate(decisions) if decision.keep]
    assert kept == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert {decision.outcome for decision in decisions if not decision.keep} == {"repeated"}
    assert "it repeats a picture that was kept, for the 600. time" in decisions[-1].reason
    assert state.standing == 600
    state, decision = decide(SlimmingRules(), state, *pictures([1 << 40]))
    assert decision.keep
    assert state.standing == 0


def test_copies_between_other_pictures_are_known_and_go_in_place_of_them() -> None:
    """A standing camera: two copies between two new pictures leave nothing to be dropped by chance."""
    codes = [code for n in range(60) for code in (((1 << 40) - 1) << n, 0, 0)]
    _, decisions = stream(SlimmingRules(warmup_frames=0), pictures(codes))
    assert all(decision.outcome != "dropped" for decision in decisions[60:])
    assert sum(decision.keep for decision in decisions[1::3] + decisions[2::3]) <= 8


def test_another_label_is_news_and_the_same_one_is_not() -> None:
    rules = SlimmingRules()
    seen = [
        FrameFigures(score=0.5, code=7),
        *(FrameFigures(score=0.5, code=7, label="one") for _ in range(4)),
    ]
    state, decisions = stream(rules, seen)
    assert [decision.outcome for decision in decisions] == ["kept", "kept", "kept", "kept", "repeated"]
    assert "repeats" not in decisions[1].reason
    assert decide(rules, state, FrameFigures(score=0.5, code=7, label="other"))[1].keep


def test_without_the_screen_copies_and_damaged_frames_are_like_others() -> None:
    rules = SlimmingRules(drop_fraction=0.0, screen=False)
    copies = pictures([7] * 10) + pictures([7] * 10, flat_below=True)
    assert all(decision.keep for decision in stream(rules, copies)[1])


def test_frames_that_a_decoder_spoilt_are_kept_out_unless_all_of_the_camera_look_so() -> None:
    spoilt = [
        FrameFigures(score=n / 100, flat_below=n % 5 in (3, 4), label="x" if n == 13 else "")
        for n in range(100)
    ]
    _, decisions = stream(SlimmingRules(drop_fraction=0.0), spoilt)
    for number, decision in enumerate(decisions):
        assert (decision.outcome == "damaged") == (number % 5 in (3, 4) and number != 13)
    bar = [FrameFigures(score=n / 100, flat_below=True) for n in range(100)]
    assert all(decision.keep for decision in stream(SlimmingRules(drop_fraction=0.0), bar)[1])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.5)), max_size=60))
def test_lights_are_few_and_each_frame_has_one(found: list[tuple[float, float]]) -> None:
    known = lights.Lights()
    for luma, contrast in found:
        known, sighting = lights.locate(known, luma, contrast)
        numbers = [light.number for light in known.known]
        assert sighting.number in numbers
        assert len(set(numbers)) == len(numbers) <= lights.MOST_LIGHTS
        assert set(numbers) <= set(range(1, lights.MOST_LIGHTS + 1))
    assert sum(light.frames for light in known.known) <= known.frames == len(found)


def test_a_slow_dusk_opens_a_light_instead_of_pulling_the_day_along() -> None:
    known, numbers = lights.Lights(), []
    for step in range(400):
        known, sighting = lights.locate(known, 0.5 - step / 1000, 0.2)
        numbers.append(sighting.number)
    assert [number for number, _ in groupby(numbers)] == list(range(1, max(numbers) + 1))
    assert max(numbers) >= 3
    assert lights.locate(known, 0.5, 0.2)[1].number == 1


def test_the_light_not_seen_for_longest_makes_room() -> None:
    known = lights.Lights()
    for number in range(lights.MOST_LIGHTS):
        known, _ = lights.locate(known, 0.2 * (number % 8), 0.2 * (number // 8))
    known, _ = lights.locate(known, 0.0, 0.0)
    known, sighting = lights.locate(known, 0.9, 0.9)
    assert (sighting.number, sighting.opened) == (2, True)


@pytest.mark.parametrize(("luma", "contrast"), [(float("nan"), 0.1), (0.1, float("inf"))])
def test_a_light_of_no_number_is_refused(luma: float, contrast: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        lights.locate(lights.Lights(), luma, contrast)


def test_the_light_of_a_stored_sample_is_its_brightness() -> None:
    found = [similarity.stored_light("0" * 192 + digit * 8) for digit in "01f"]
    assert found == [0, 0, 7]
    assert [similarity.stored_light(text) for text in ("", "zz")] == [-1, -1]


def test_only_so_many_pictures_are_remembered_and_those_that_come_again_stay() -> None:
    kept: tuple[Picture, ...] = ()
    for number in range(repeats.MEMORY + 1):
        kept = repeats.remember(kept, ((1 << 64) - 1) << (8 * number))
    assert len(kept) == repeats.MEMORY
    first = (1 << 64) - 1
    assert repeats.find(kept, first) is None
    place = repeats.find(kept, first << 8)
    assert place == 0
    again = repeats.repeated(kept, place)
    assert repeats.find(again, first << 8) == repeats.MEMORY - 1
    assert (again[-1].repeats, len(again)) == (1, repeats.MEMORY)
    assert repeats.find(again, None) is None
    assert repeats.remember(again, None) is again


@given(st.lists(st.text("0123456789abcdef", min_size=200, max_size=200), min_size=1, max_size=5), st.data())
def test_a_picture_is_found_whatever_cells_of_it_have_changed(texts: list[str], data: st.DataObject) -> None:
    kept = tuple(Picture(code=code) for text in texts if (code := similarity.code(text)) is not None)
    cells = list(data.draw(st.sampled_from(texts)))
    for at in data.draw(st.lists(st.integers(0, 199), max_size=6)):
        cells[at] = "0123456789abcdef"[max(0, int(cells[at], 16) - 1)]
    asked = similarity.code("".join(cells))
    near = [place for place, picture in enumerate(kept) if similarity.near(asked, picture.code)]
    assert repeats.find(kept, asked) == (near[-1] if near else None)
