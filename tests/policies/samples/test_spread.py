"""What is to be labelled is spread over time, conditions and places."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.samples import similarity
from dance_ondevice.policies.samples.labelling import choose_for_labelling
from dance_ondevice.policies.samples.sample_value import values
from dance_ondevice.policies.samples.splits import SampleInfo
from dance_ondevice.policies.samples.spread import choose_spread, with_likely_conditions


def frame(
    number: int, at: float, *, camera: str = "front", condition: str = "", score: float = 0.5
) -> SampleInfo:
    return SampleInfo(
        id=f"s{number:04d}", camera=camera, captured_at=at, score=score, labelled=False, condition=condition
    )


frames = st.lists(
    st.tuples(
        st.floats(0, 1000),
        st.sampled_from(["front", "back"]),
        st.sampled_from(["", "day", "dusk"]),
        st.floats(0, 1),
    ),
    max_size=40,
).map(
    lambda rows: [
        frame(i, at, camera=camera, condition=condition, score=score)
        for i, (at, camera, condition, score) in enumerate(rows)
    ]
)


@given(frames, st.integers(0, 50), st.integers())
def test_as_many_as_asked_for_each_once_whatever_the_order(
    samples: list[SampleInfo], count: int, seed: int
) -> None:
    chosen = choose_for_labelling(samples, count)
    assert len(chosen.ids) == len(set(chosen.ids)) == min(count, len(samples))
    assert set(chosen.ids) <= {s.id for s in samples}
    shuffled = list(samples)
    random.Random(seed).shuffle(shuffled)
    assert choose_for_labelling(shuffled, count) == chosen


def test_frames_whose_condition_is_not_noted_yet_are_not_rare() -> None:
    day = [frame(i, 100.0 * i, condition="day") for i in range(20)]
    newest = frame(99, 5000.0)
    worth = values([*day, newest])
    assert worth[newest.id] == worth[day[0].id]


def test_not_neighbours_of_one_second_but_apart_even_where_those_are_worth_more() -> None:
    newest = [frame(i, 600.0 + i / 10, score=0.9) for i in range(10)]
    older = [frame(100 + i, 60.0 * i, score=0.3) for i in range(10)]
    by_id = {s.id: s for s in [*newest, *older]}
    times = sorted(by_id[i].captured_at for i in choose_for_labelling(list(by_id.values()), 5).ids)
    assert all(b - a >= 60.0 for a, b in pairwise(times))


def test_a_frame_beside_a_labelled_one_comes_last() -> None:
    labelled = frame(0, 100.0)
    beside, far = frame(1, 100.5, score=0.9), frame(2, 400.0, score=0.1)
    assert choose_for_labelling([beside, far], 2, labelled=[labelled]).ids == (far.id, beside.id)


def test_places_and_conditions_take_turns() -> None:
    samples = [frame(i, 100.0 * i, condition="day", score=0.9) for i in range(30)]
    samples += [frame(100 + i, 5000.0 + 100 * i, condition="dusk", score=0.2) for i in range(5)]
    samples += [frame(200 + i, 100.0 * i, camera="back", score=0.1) for i in range(5)]
    by_id = {s.id: s for s in samples}
    chosen = [by_id[i] for i in choose_for_labelling(samples, 6).ids]
    assert sorted((s.camera, s.condition) for s in chosen) == [
        *[("back", "")] * 2, *[("front", "day")] * 2, *[("front", "dusk")] * 2,
    ]  # fmt: skip


def test_an_unknown_condition_is_that_of_the_nearest_frame_of_its_camera() -> None:
    samples = [
        frame(0, 0.0, condition="day"),
        frame(1, 40.0),
        frame(2, 60.0),
        frame(3, 100.0, condition="dusk"),
    ]
    samples.append(frame(4, 50.0, camera="back"))
    found = {s.id: s.condition for s in with_likely_conditions(samples)}
    assert list(found.values()) == ["day", "day", "dusk", "dusk", ""]


def test_images_at_full_size_come_first() -> None:
    samples = [frame(0, 0.0), frame(1, 1000.0)]
    assert choose_for_labelling(samples, 1, reduced={"s0000"}).ids == ("s0001",)
    assert choose_for_labelling(samples, 1, reduced={"s0001"}).ids == ("s0000",)


def test_near_duplicates_of_what_is_chosen_are_left_out() -> None:
    twins = [
        SampleInfo(id=i, camera="front", captured_at=at, labelled=False, signature=signature)
        for i, at, signature in (("a", 0.0, "00ff"), ("b", 500.0, "00ff"), ("c", 900.0, "ff00"))
    ]
    assert similarity.near(similarity.code("00ff"), similarity.code("00ff"))
    chosen = choose_spread(twins, 3, dict.fromkeys("abc", 1.0))
    assert (chosen.ids, chosen.duplicates) == (("a", "c"), ("b",))
