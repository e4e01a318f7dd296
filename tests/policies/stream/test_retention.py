from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.stream.retention import (
    KEEP_PER_CLASS,
    KEEP_PER_LIGHT,
    StoredSample,
    choose_evictions,
)


def sample(
    index: int,
    *,
    camera: str = "front",
    time: float | None = None,
    size: int = 10,
    classes: set[int] | None = None,
    held_out: bool = False,
    light: int = -1,
    condition: str = "",
    repeated: bool = False,
) -> StoredSample:
    """Labelled when `classes` is given."""
    return StoredSample(
        id=f"s{index:03d}",
        camera=camera,
        arrival=index if time is None else time,
        bytes=size,
        score=0.5,
        labelled=classes is not None,
        held_out=held_out,
        classes=frozenset(classes or ()),
        light=light,
        condition=condition,
        repeated=repeated,
    )


@st.composite
def stores(draw: st.DrawFn) -> list[StoredSample]:
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["front", "rear", "left"]),
                st.floats(0, 50) | st.just(7.0),
                st.integers(0, 100),
                st.none() | st.sets(st.integers(0, 4), max_size=4),
                st.booleans(),
            ),
            max_size=60,
        )
    )
    return [
        sample(index, camera=camera, time=time, size=size, classes=classes, held_out=held_out)
        for index, (camera, time, size, classes, held_out) in enumerate(rows)
    ]


@given(stores(), st.integers(-10, 4000), st.integers(0, 9), st.integers(0, 5))
def test_frees_enough_or_all_it_may_and_never_what_is_held_out(
    store: list[StoredSample], wanted: int, seed: int, keep: int
) -> None:
    by_id = {s.id: s for s in store}
    chosen = choose_evictions(store, wanted, seed, keep_per_class=keep)
    gone = [by_id[each] for each in chosen]
    assert len(set(chosen)) == len(chosen)
    assert not any(s.held_out for s in gone)
    freed = sum(s.bytes for s in gone)
    if freed < wanted:
        assert {s.id for s in gone} == {s.id for s in store if not s.held_out}
    elif gone:
        assert freed - gone[-1].bytes < wanted
    if wanted <= 0:
        assert not gone


@given(stores(), st.integers(1, 4000), st.integers(0, 9), st.integers(1, 5))
def test_a_class_loses_its_last_samples_only_when_nothing_else_can_go(
    store: list[StoredSample], wanted: int, seed: int, keep: int
) -> None:
    by_id = {s.id: s for s in store}
    left = {s.id: s for s in store if not s.held_out}
    for each in choose_evictions(store, wanted, seed, keep_per_class=keep):
        per_class = Counter(c for s in left.values() if s.labelled for c in s.classes)
        rarest = {
            s.id: min((per_class[c] for c in s.classes), default=10**6) for s in left.values() if s.labelled
        }
        if by_id[each].labelled:
            assert all(s.labelled for s in left.values()), "unlabelled samples go first"
            if rarest[each] <= keep:
                assert rarest[each] == max(rarest.values()), "a richer class could have given one"
        del left[each]


@given(stores(), st.integers(0, 4000), st.integers(0, 9), st.randoms())
def test_deterministic_whatever_the_order(
    store: list[StoredSample], wanted: int, seed: int, order: random.Random
) -> None:
    shuffled = list(store)
    order.shuffle(shuffled)
    assert choose_evictions(shuffled, wanted, seed) == choose_evictions(store, wanted, seed)


@given(stores(), st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 9))
def test_freeing_more_takes_the_same_ones_first(
    store: list[StoredSample], less: int, more: int, seed: int
) -> None:
    few = choose_evictions(store, less, seed)
    many = choose_evictions(store, less + more, seed)
    assert many[: len(few)] == few


def test_oldest_go_first() -> None:
    store = [sample(index, time=float(50 - index)) for index in range(50)]
    assert choose_evictions(store, 30, seed=0) == ["s049", "s048", "s047"]


def test_the_camera_with_the_most_samples_gives_until_it_has_no_more_than_the_others() -> None:
    front = [sample(index, camera="front", time=100.0 + index) for index in range(6)]
    rear = [sample(10 + index, camera="rear", time=float(index)) for index in range(4)]
    assert choose_evictions(front + rear, 50, seed=0) == ["s000", "s001", "s010", "s002", "s011"]


def test_labelled_samples_count_towards_their_camera() -> None:
    labelled = [sample(index, camera="front", classes={1}) for index in range(5)]
    bare = [sample(10, camera="front"), sample(5, camera="rear"), sample(6, camera="rear")]
    assert choose_evictions(labelled + bare, 20, seed=0) == ["s010", "s005"]


def test_rare_class_survives_a_common_one() -> None:
    common = [sample(100 + index, classes={0}) for index in range(40)]
    rare = [sample(index, classes={0, 7}) for index in range(3)]
    chosen = choose_evictions(common + rare, 300, seed=0)
    assert chosen == [f"s{100 + index:03d}" for index in range(30)]
    assert choose_evictions(common + rare, 10_000, seed=0)[-3:] == ["s000", "s001", "s002"]


def test_held_out_samples_do_not_count_as_the_last_of_a_class() -> None:
    held = [sample(index, classes={1}, held_out=True) for index in range(20)]
    last = [sample(50 + index, classes={1}) for index in range(KEEP_PER_CLASS)]
    other = [sample(80 + index, classes={2}) for index in range(KEEP_PER_CLASS + 1)]
    assert choose_evictions(held + last + other, 10, seed=0) == ["s080"]


def test_labelled_samples_without_any_class_go_before_the_last_of_a_class() -> None:
    store = [sample(0, classes={1}), sample(1, classes=set())]
    assert choose_evictions(store, 10, seed=0) == ["s001"]


def test_seed_decides_between_samples_alike_in_all_else() -> None:
    store = [sample(index, time=7.0) for index in range(30)]
    first = {seed: choose_evictions(store, 10, seed)[0] for seed in range(20)}
    assert len(set(first.values())) > 5


@pytest.mark.parametrize("wanted", [0, -1])
def test_nothing_to_free(wanted: int) -> None:
    assert choose_evictions([sample(0)], wanted, seed=0) == []


@pytest.mark.parametrize("labelled_days", [False, True])
def test_three_days_and_nights_leave_every_light_in_a_full_store(labelled_days: bool) -> None:
    """A day has five times the frames of a night, and may have labels where nobody labels a night."""
    store: list[StoredSample] = []
    smallest: Counter[int] = Counter()
    index = 0
    for _ in range(3):
        for light, count in ((5, 300), (2, 60), (0, 60), (2, 60)):
            for _ in range(count):
                classes = {0} if labelled_days and light == 5 else None
                store.append(sample(index, light=light, classes=classes))
                index += 1
                gone = set(choose_evictions(store, 10 * (len(store) - 120), 0))
                store = [s for s in store if s.id not in gone]
        smallest = Counter(s.light for s in store)
    assert set(smallest) == {0, 2, 5}
    # By day labels count: then a night keeps its last samples, else its full share.
    assert min(smallest.values()) >= (KEEP_PER_LIGHT if labelled_days else 39)


@given(
    st.lists(st.sampled_from([0, 2, 5]), max_size=90), st.integers(1, 900), st.sampled_from(["front", "rear"])
)
def test_the_light_with_the_most_samples_gives_until_none_has_more_than_others(
    found: list[int], wanted: int, camera: str
) -> None:
    store = [sample(index, light=light, camera=camera) for index, light in enumerate(found)]
    left = Counter(found)
    for identifier in choose_evictions(store, wanted, 0):
        light = found[int(identifier[1:])]
        assert left[light] == max(left.values())
        left[light] -= 1


def test_what_repeats_goes_first() -> None:
    store = [sample(index, repeated=index in (3, 7)) for index in range(9)]
    assert choose_evictions(store, 30, seed=0) == ["s003", "s007", "s000"]
