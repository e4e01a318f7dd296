from __future__ import annotations

import random
from dataclasses import replace
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.samples.splits import SampleInfo, Split, assign_splits


def sample(index: int, time: float, camera: str = "front", split: Split | None = None) -> SampleInfo:
    return SampleInfo(id=f"{camera}-{index:05d}", camera=camera, captured_at=time, labelled=True, split=split)


def regular(count: int, seconds: float, start: float = 1.7e9) -> list[SampleInfo]:
    return [sample(index, start + index * seconds) for index in range(count)]


def in_time(samples: list[SampleInfo], splits: dict[str, Split], camera: str = "front") -> list[Split]:
    """The splits of one camera in order of time, of samples that had one included."""
    ordered = sorted((s for s in samples if s.camera == camera), key=lambda s: (s.captured_at, s.id))
    return [splits[s.id] if s.split is None else s.split for s in ordered]


def never_beside(row: list[Split]) -> bool:
    return all({left, right} != {"train", "gate"} for left, right in pairwise(row))


streams = st.lists(
    st.tuples(
        st.sampled_from(["front", "rear"]),
        st.floats(min_value=0, max_value=400) | st.sampled_from([0.0, 1.0, 50.0]),
    ),
    max_size=120,
).map(lambda rows: [sample(index, time, camera) for index, (camera, time) in enumerate(rows)])


@given(streams, st.sampled_from([0.1, 0.2, 0.35, 0.5]), st.sampled_from([0.0, 1.0, 5.0, 60.0]), st.randoms())
def test_any_stream_is_split_whole_apart_and_in_any_order_alike(
    samples: list[SampleInfo], share: float, block_seconds: float, order: random.Random
) -> None:
    splits = assign_splits(samples, share, block_seconds)
    assert splits.keys() == {s.id for s in samples}
    for camera in {s.camera for s in samples}:
        row = in_time(samples, splits, camera)
        assert never_beside(row)
        if len(row) == 1:
            assert row == ["train"]
        if len(row) >= 2:
            assert "gate" in row
        if len(row) >= 3:
            assert "train" in row
    shuffled = list(samples)
    order.shuffle(shuffled)
    assert assign_splits(shuffled, share, block_seconds) == splits


@pytest.mark.parametrize("seconds", [0.0, 1 / 30, 0.5, 1.0, 60.0])
@pytest.mark.parametrize("count", [3, 5, 12, 43, 64, 500, 5000])
def test_share_is_about_met_and_most_of_the_rest_trains(count: int, seconds: float) -> None:
    samples = regular(count, seconds)
    row = in_time(samples, assign_splits(samples))
    gate, train = row.count("gate"), row.count("train")
    assert gate == pytest.approx(0.2 * count, abs=max(1.0, 0.04 * count))
    assert train >= (1 if count == 3 else 0.6 * count)
    assert never_beside(row)


@pytest.mark.parametrize("seconds", [1 / 30, 0.5])
def test_held_out_are_contiguous_blocks_as_long_as_asked_and_spread_over_the_stream(seconds: float) -> None:
    samples = regular(5000, seconds)
    row = in_time(samples, assign_splits(samples, 0.2, 5.0))
    lengths = [len(list(run)) for split, run in groupby(row) if split == "gate"]
    assert len(lengths) >= 6
    assert all(length * seconds >= 5.0 - 1e-6 for length in lengths)
    quarters = [row[start : start + 1250].count("gate") / 1250 for start in range(0, 5000, 1250)]
    assert all(0.1 <= share <= 0.3 for share in quarters)


def test_samples_within_a_moment_are_still_cut_into_blocks() -> None:
    samples = [sample(index, 7.0) for index in range(50)]
    row = in_time(samples, assign_splits(samples))
    assert row.count("gate") == 10
    assert [split for split, _ in groupby(row)] == ["train", "guard", "gate", "guard", "train"]


def test_a_fast_stream_keeps_more_than_one_frame_between_gate_and_train() -> None:
    samples = regular(3000, 1 / 30)
    row = in_time(samples, assign_splits(samples))
    assert min(len(list(run)) for split, run in groupby(row) if split == "guard") >= 29


@pytest.mark.parametrize(
    ("count", "row"),
    [
        (0, []),
        (1, ["train"]),
        (2, ["guard", "gate"]),
        (3, ["train", "guard", "gate"]),
        (5, ["train", "train", "train", "guard", "gate"]),
    ],
)
def test_first_few_samples(count: int, row: list[Split]) -> None:
    samples = regular(count, 1.0)
    assert in_time(samples, assign_splits(samples)) == row


def test_share_zero_holds_nothing_out() -> None:
    assert set(assign_splits(regular(100, 1.0), share=0.0).values()) == {"train"}


def test_cameras_are_split_each_on_its_own() -> None:
    rear = [sample(index, 0.5 * index, "rear") for index in range(60)]
    together = assign_splits(regular(80, 1.0) + rear)
    assert together == assign_splits(regular(80, 1.0)) | assign_splits(rear)


def test_unlabelled_samples_wait_and_assigned_ones_stay() -> None:
    bare = SampleInfo(id="bare", camera="front", captured_at=3.5, labelled=False)
    fixed = sample(99, 1000.0, split="guard")
    splits = assign_splits([*regular(8, 1.0, start=0.0), bare, fixed])
    assert "bare" not in splits
    assert fixed.id not in splits
    assert len(splits) == 8


@given(streams, st.lists(st.integers(0, 119), max_size=3))
def test_calls_that_see_earlier_samples_keep_apart_from_them(
    samples: list[SampleInfo], cuts: list[int]
) -> None:
    known: dict[str, Split] = {}
    for end in [*sorted(cuts), len(samples)]:
        seen = [sample(int(s.id[-5:]), s.captured_at, s.camera, known.get(s.id)) for s in samples[:end]]
        fresh = assign_splits(seen)
        assert fresh.keys().isdisjoint(known)
        known |= fresh
        for camera in {s.camera for s in seen}:
            assert never_beside(in_time(seen, known, camera))
    assert len(known) == len(samples)


def test_many_small_calls_meet_the_share_in_the_long_run() -> None:
    known: list[SampleInfo] = []
    for call in range(60):
        new = [sample(7 * call + k, float(7 * call + k)) for k in range(7)]
        splits = assign_splits(known + new)
        known += [sample(int(s.id[-5:]), s.captured_at, split=splits[s.id]) for s in new]
    row = [s.split for s in known]
    assert row.count("gate") / len(row) == pytest.approx(0.2, abs=0.02)
    assert row.count("train") / len(row) >= 0.45


def test_a_camera_with_held_out_samples_enough_gives_its_few_new_ones_to_training() -> None:
    splits: list[Split] = ["gate", "gate", "guard", "train", "train"]
    known = [sample(index, float(index), split=split) for index, split in enumerate(splits)]
    new = [sample(10 + index, 100.0 + index) for index in range(3)]
    assert set(assign_splits(known + new).values()) == {"train"}


def test_late_labels_follow_their_neighbours() -> None:
    splits: list[Split] = ["train", "train", "guard", "gate", "gate", "guard", "train"]
    known = [sample(index, 2.0 * index, split=split) for index, split in enumerate(splits)]
    late = [sample(100 + index, 2.0 * index + 1.0) for index in range(6)]
    row = [assign_splits(known + late)[s.id] for s in late]
    assert row == ["train", "guard", "guard", "gate", "guard", "guard"]


@pytest.mark.parametrize(("share", "seconds"), [(-0.1, 5.0), (0.6, 5.0), (float("nan"), 5.0), (0.2, -1.0)])
def test_impossible_arguments(share: float, seconds: float) -> None:
    with pytest.raises(ValueError, match=r"give 0"):
        assign_splits([], share, seconds)


DIGITS = "0123456789abcdef"


def look(index: int, signature: str, classes: set[int], split: Split | None = None) -> SampleInfo:
    return SampleInfo(
        id=f"d{index:03d}",
        camera="front",
        captured_at=float(index),
        labelled=True,
        split=split,
        signature=signature,
        classes=frozenset(classes),
    )


def test_near_duplicates_of_training_samples_serve_for_nothing_unless_they_show_another_class() -> None:
    earlier = [look(0, "0" * 8, {1, 2}, "train")]
    new = [look(10, "00000001", {1}), look(11, "00000002", {1, 3}), look(12, "80000000", {1})]
    # No share is held out, so each of the new ones would train.
    assert assign_splits([*earlier, *new], share=0.0) == {
        "d010": "duplicate",
        "d011": "train",
        "d012": "train",
    }


def test_the_first_of_several_alike_trains_and_their_place_holds() -> None:
    new = [look(i, "0" * 8, {1}) for i in range(3)] + [look(3, "", {1})]
    splits = assign_splits(new, share=0.0)
    assert splits == {"d000": "train", "d001": "duplicate", "d002": "duplicate", "d003": "train"}
    fixed = [replace(s, split=splits[s.id]) for s in new]
    assert assign_splits([*fixed, look(4, "00000001", {1})], share=0.0) == {"d004": "duplicate"}


def test_nothing_is_held_out_beside_a_near_duplicate_of_a_training_sample() -> None:
    fixed = [look(i, "0" * 8, {1}, "duplicate") for i in range(6)]
    new = [look(6 + i, DIGITS[i] * 8, {1}) for i in range(12)]
    splits = assign_splits([*fixed, *new], share=0.3)
    assert "gate" in splits.values()
    assert splits["d006"] != "gate"
