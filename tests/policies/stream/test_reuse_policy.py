from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.stream.reuse import (
    MOST_CHANGE,
    MOST_SECONDS,
    Change,
    Scene,
    observe,
    unchanged,
)

LEVELS = st.floats(0, 50)
CHANGES = st.tuples(LEVELS, LEVELS).map(lambda pair: Change(usual=min(pair), largest=max(pair)))
UNIT = st.floats(0, 1)


def learnt(changes: list[Change], luma: float = 0.5) -> Scene:
    scene = Scene()
    for change in [None, *changes]:
        scene = observe(scene, luma, 0.2, change)
    return scene


@given(st.lists(st.tuples(UNIT, UNIT, CHANGES), max_size=30), CHANGES, st.floats(0, 100))
def test_neither_a_large_change_nor_an_old_mask_is_ever_passed_over(
    frames: list[tuple[float, float, Change]], change: Change, age: float
) -> None:
    scene = Scene()
    for luma, contrast, each in frames:
        scene = observe(scene, luma, contrast, each)
    if unchanged(scene, change, age):
        assert change.largest <= MOST_CHANGE
        assert age <= MOST_SECONDS


@given(st.lists(CHANGES, min_size=6, max_size=30), CHANGES, CHANGES)
def test_whoever_changes_less_is_no_more_changed(learn: list[Change], one: Change, other: Change) -> None:
    scene = learnt(learn)
    less, more = sorted((one, other), key=lambda change: change.largest)
    assert unchanged(scene, less, 1.0) >= unchanged(scene, more, 1.0)


@given(st.lists(st.floats(11, 200), min_size=1, max_size=40))
def test_a_camera_that_moves_never_reuses_a_mask(largest: list[float]) -> None:
    changes = [Change(usual=each / 2, largest=each) for each in largest]
    scene = learnt(changes)
    assert not any(unchanged(scene, change, 0.1) for change in changes)


def test_noise_is_learnt_for_each_light_and_a_crowd_does_not_raise_it() -> None:
    quiet, crowd = Change(usual=1.0, largest=2.5), Change(usual=9.0, largest=90.0)
    scene = learnt([quiet] * 8 + [crowd] * 4 + [quiet])
    assert unchanged(scene, quiet, 1.0)
    assert not unchanged(scene, Change(usual=1.0, largest=4.0), 1.0)
    night = observe(scene, 0.05, 0.05, quiet)
    assert night.threshold is None
    for _ in range(6):
        night = observe(night, 0.05, 0.05, Change(usual=2.0, largest=5.0))
    assert unchanged(night, Change(usual=2.0, largest=5.5), 1.0)
    day = observe(night, 0.5, 0.2, crowd)
    assert not unchanged(day, Change(usual=2.0, largest=5.5), 1.0)
