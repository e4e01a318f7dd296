"""Batches: buckets, order, augmentation, and the errors that name the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.training.batches import (
    MIN_BATCH,
    BatchOptions,
    BatchPlan,
    Draw,
    SampleError,
    TrainingSample,
    class_frequencies,
    draw_augmentation,
    fit,
    image_size,
    read_image,
    read_label,
    recolour,
)


def write(folder: Path, name: str, image: np.ndarray, label: np.ndarray, **fields: Any) -> TrainingSample:
    """An image as JPEG and its label as PNG."""
    paths = folder / f"{name}.jpg", folder / f"{name}.png"
    paths[0].write_bytes(encode_jpeg(image))
    paths[1].write_bytes(encode_png(label))
    return TrainingSample(*paths, **fields)


def flat(folder: Path, name: str, size: tuple[int, int], **fields: Any) -> TrainingSample:
    return write(folder, name, np.full((*size, 3), 90, np.uint8), np.zeros(size, np.uint8), **fields)


def quadrants(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Four classes, one a quarter, each with a grey level of its own: image and label can be told apart."""
    label = np.zeros(size, np.uint8)
    label[:, size[1] // 2 :] += 1
    label[size[0] // 2 :] += 2
    return np.repeat((label * 60 + 30)[..., None], 3, axis=2).astype(np.uint8), label


def test_fit_without_choices_of_the_same_size_changes_nothing() -> None:
    image, label = quadrants((48, 64))
    fitted = fit(image, label, (48, 64), Draw())
    assert np.array_equal(fitted[0], image)
    assert np.array_equal(fitted[1], label)


def test_fit_covers_the_size_and_crops_the_middle() -> None:
    image, label = quadrants((40, 100))
    fitted_image, fitted_label = fit(image, label, (20, 20), Draw())
    assert fitted_image.shape == (20, 20, 3)
    assert np.array_equal(np.bincount(fitted_label.ravel()), [100, 100, 100, 100])


def test_fit_zoomed_out_pads_with_ignore() -> None:
    image, label = quadrants((40, 40))
    fitted_image, fitted_label = fit(image, label, (40, 40), Draw(zoom=0.5, x=0.0, y=1.0))
    assert np.array_equal(np.argwhere(fitted_label != IGNORE).min(axis=0), [20, 0])
    assert np.array_equal(np.argwhere(fitted_label != IGNORE).max(axis=0), [39, 19])
    assert (fitted_image[:20] == 127).all()


def test_fit_zoomed_in_shows_the_place_that_was_drawn() -> None:
    image, label = quadrants((40, 40))
    for x, y, expected in ((0.0, 0.0, 0), (1.0, 0.0, 1), (0.0, 1.0, 2), (1.0, 1.0, 3)):
        _, fitted = fit(image, label, (40, 40), Draw(zoom=2.0, x=x, y=y))
        assert (fitted == expected).all()


def test_fit_flips_image_and_label_together() -> None:
    image, label = quadrants((40, 40))
    fitted_image, fitted_label = fit(image, label, (40, 40), Draw(flip=True))
    assert np.array_equal(fitted_label, label[:, ::-1])
    assert np.array_equal(fitted_image, image[:, ::-1])


def test_fit_stretches_a_label_of_another_size_over_the_image() -> None:
    image, label = quadrants((40, 60))
    _, native = quadrants((80, 120))
    assert np.array_equal(fit(image, native, (40, 60), Draw())[1], label)


@given(
    source=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    draw=st.builds(Draw, zoom=st.floats(0.25, 4), x=st.floats(0, 1), y=st.floats(0, 1), flip=st.booleans()),
)
def test_fit_returns_the_size_whatever_comes_in(
    source: tuple[int, int], size: tuple[int, int], draw: Draw
) -> None:
    image, label = quadrants(source)
    fitted_image, fitted_label = fit(image, label, size, draw)
    assert fitted_image.shape == (*size, 3)
    assert fitted_label.shape == size
    assert (fitted_label != IGNORE).any()
    assert set(np.unique(fitted_label)) <= {0, 1, 2, 3, IGNORE}


@given(zoom=st.floats(0.4, 3), x=st.floats(0, 1), y=st.floats(0, 1), flip=st.booleans())
def test_fit_keeps_image_and_label_aligned(zoom: float, x: float, y: float, flip: bool) -> None:
    image, label = quadrants((80, 120))
    fitted_image, fitted_label = fit(image, label, (60, 70), Draw(zoom, x, y, flip))
    expected = np.where(fitted_label == IGNORE, 127, fitted_label.astype(int) * 60 + 30)
    wrong = np.abs(fitted_image[..., 0].astype(int) - expected) > 15
    assert wrong.sum() <= 2 * (60 + 70)  # at most the smoothed borders between the quarters


def test_recolour() -> None:
    image = np.full((2, 2, 3), (40, 100, 200), np.uint8)
    assert np.array_equal(recolour(image, Draw()), image)
    assert np.array_equal(recolour(image, Draw(brightness=0.5)), image // 2)
    assert (recolour(image, Draw(contrast=0.5))[0, 0] == [84, 114, 164]).all()
    grey = recolour(image, Draw(saturation=0.0))
    assert (grey == grey[0, 0, 0]).all()
    assert recolour(image, Draw(brightness=1.5)).max() == 255  # clipped, not wrapped around


@given(st.integers(0, 2**32), st.floats(0, 0.9))
def test_draws_stay_within_their_limits(seed: int, jitter: float) -> None:
    options = BatchOptions(num_classes=3, zoom=(0.5, 2.0), jitter=jitter)
    draw = draw_augmentation(np.random.default_rng(seed), options)
    assert 0.5 <= draw.zoom <= 2.0
    assert 0 <= draw.x <= 1
    assert 0 <= draw.y <= 1
    for gain in (draw.brightness, draw.contrast, draw.saturation):
        assert 1 - jitter <= gain <= 1 + jitter


def test_read_image_decodes_only_as_large_as_needed(tmp_path: Path) -> None:
    sample = flat(tmp_path, "a", (240, 320))
    assert read_image(sample).shape == (240, 320, 3)
    assert read_image(sample, (120, 160)).shape == (120, 160, 3)
    assert read_image(sample, (61, 60)).shape == (120, 160, 3)
    assert read_image(sample, (30, 40)).shape == (30, 40, 3)
    assert read_image(sample, (500, 500)).shape == (240, 320, 3)
    assert image_size(sample) == (240, 320)


def test_void_ids_are_ignored_and_others_refused(tmp_path: Path) -> None:
    label = np.array([[0, 1], [11, 255]], np.uint8)
    image = np.zeros((2, 2, 3), np.uint8)
    assert read_label(write(tmp_path, "a", image, label, void=(11,)), 2).tolist() == [[0, 1], [255, 255]]
    with pytest.raises(SampleError, match=r"a\.png.*11"):
        read_label(write(tmp_path, "a", image, label), 2)


@pytest.mark.parametrize("part", ["image", "label"])
@pytest.mark.parametrize("damage", ["missing", "empty", "text"])
def test_unusable_files_are_named(tmp_path: Path, part: str, damage: str) -> None:
    sample = flat(tmp_path, "a", (8, 8))
    path: Path = getattr(sample, part)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else b"not an image at all, only text")
    plan_options = BatchOptions(num_classes=2, size=(8, 8))
    with pytest.raises(SampleError, match=str(path)):
        BatchPlan([sample], plan_options).load(0)
    if part == "image":
        with pytest.raises(SampleError, match=str(path)):
            BatchPlan([sample], BatchOptions(num_classes=2))


def test_class_frequencies(tmp_path: Path) -> None:
    label = np.array([[0, 0, 1, 255], [0, 9, 9, 9]], np.uint8)
    sample = write(tmp_path, "a", np.zeros((2, 4, 3), np.uint8), label, void=(9,))
    assert class_frequencies([sample, sample], 3).tolist() == [0.75, 0.25, 0]
    blank = write(tmp_path, "b", np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 255, np.uint8))
    assert class_frequencies([blank], 2).tolist() == [0, 0]


def plan_of(sizes: list[tuple[int, int]], batch_size: int, seed: int = 0) -> BatchPlan:
    """A plan over samples whose sizes are their scales of a fixed size: no files are needed."""
    samples = [
        TrainingSample(Path(f"{i}.jpg"), Path(f"{i}.png"), scale=height / 1000)
        for i, (height, _) in enumerate(sizes)
    ]
    return BatchPlan(
        samples, BatchOptions(num_classes=2, batch_size=batch_size, size=(1000, 1000), seed=seed)
    )


@given(
    heights=st.lists(st.sampled_from([250, 500, 1000]), min_size=1, max_size=40),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_every_epoch_visits_every_sample_in_batches_of_one_size(
    heights: list[int], batch_size: int, seed: int
) -> None:
    plan = plan_of([(h, h) for h in heights], batch_size, seed)
    for epoch in range(2):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        seen: Counter[int] = Counter()
        for step in steps:
            size, members = plan.members(step)
            assert {heights[index] for index in members} == {size[0]}
            in_bucket = heights.count(size[0])
            assert len(members) == max(MIN_BATCH, min(batch_size, in_bucket))
            if in_bucket >= MIN_BATCH and batch_size >= MIN_BATCH:
                assert len(set(members)) == len(members)
            seen.update(members)
        assert set(seen) == set(range(len(heights)))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    sizes = [(250, 250), (500, 500)] * 10
    plan = plan_of(sizes, 4)
    order = [plan.members(step) for step in range(3 * plan.steps_per_epoch)]
    again = plan_of(sizes, 4)
    assert [again.members(step) for step in reversed(range(len(order)))] == order[::-1]
    per_epoch = plan.steps_per_epoch
    assert order[:per_epoch] != order[per_epoch : 2 * per_epoch]
    assert order[:per_epoch] != [plan_of(sizes, 4, seed=1).members(step) for step in range(per_epoch)]


def test_batches_are_reproducible_and_of_the_bucket_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = [
        write(
            tmp_path,
            f"{i}",
            rng.integers(0, 255, (*size, 3), dtype=np.uint8),
            rng.integers(0, 3, size, dtype=np.uint8),
            weight=0.5 + i,
            scale=scale,
        )
        for i, (size, scale) in enumerate(
            [((30, 41), 1.0), ((60, 82), 0.5), ((33, 47), 1.0), ((30, 41), 1.0)]
        )
    ]
    options = BatchOptions(num_classes=3, batch_size=3)
    plan = BatchPlan(samples, options)
    assert dict(plan.buckets) == {(30, 41): (0, 1, 3), (33, 47): (2,)}
    for step in range(plan.steps_per_epoch):
        size, members = plan.members(step)
        batch, again = plan.load(step), BatchPlan(samples, options).load(step)
        assert batch.images.shape == (len(members), *size, 3)
        assert batch.labels.shape == (len(members), *size)
        assert batch.weights.tolist() == [samples[index].weight for index in members]
        assert np.array_equal(batch.images, again.images)
        assert np.array_equal(batch.labels, again.labels)


def test_the_same_sample_looks_different_every_time_unless_augmentation_is_off(tmp_path: Path) -> None:
    image, label = quadrants((32, 32))
    sample = write(tmp_path, "a", image, label)
    augmented = BatchPlan([sample], BatchOptions(num_classes=4)).load(0)
    assert not np.array_equal(augmented.images[0], augmented.images[1])
    plain = BatchPlan([sample], BatchOptions(num_classes=4, augment=False)).load(0)
    assert np.array_equal(plain.labels[0], label)
    assert np.array_equal(plain.labels[1], label)


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"weight": -1.0}, "weight"), ({"weight": float("nan")}, "weight"), ({"scale": 0.0}, "scale")],
)
def test_impossible_samples(fields: dict[str, float], word: str) -> None:
    sample = TrainingSample(Path("a.jpg"), Path("a.png"), **fields)
    with pytest.raises(SampleError, match=word):
        BatchPlan([sample], BatchOptions(num_classes=2, size=(8, 8)))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"num_classes": 0}, "num_classes"),
        ({"num_classes": 256}, "num_classes"),
        ({"size": (0, 5)}, "size"),
        ({"zoom": (2.0, 1.0)}, "zoom"),
        ({"zoom": (0.0, 1.0)}, "zoom"),
        ({"jitter": 1.0}, "jitter"),
    ],
)
def test_impossible_options(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        BatchOptions(**{"num_classes": 3, **fields})


def test_no_samples() -> None:
    with pytest.raises(ValueError, match="no samples"):
        BatchPlan([], BatchOptions(num_classes=2))
