"""Decoded images and labels are kept within a bound, and batches are the same with and without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dance_ondevice.images.codec import encode_jpeg, encode_png
from dance_ondevice.training.batches import BatchOptions, BatchPlan, TrainingSample, class_frequencies
from dance_ondevice.training.decoded import Decoded


def array(size: int) -> Callable[[], np.ndarray]:
    return lambda: np.zeros(size, np.uint8)


def test_it_keeps_what_came_first_and_never_more_than_the_bound() -> None:
    decoded = Decoded(100)
    kept = decoded.get("a", array(60))
    assert decoded.get("b", array(60)) is not decoded.get("b", array(60)), "there is no room for it"
    assert decoded.get("c", array(40)) is decoded.get("c", array(40))
    assert decoded.get("a", array(60)) is kept
    assert decoded.bytes == 100
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1
    nothing = Decoded(0)
    assert nothing.get("a", array(1)) is not nothing.get("a", array(1))


def test_what_cannot_be_decoded_is_tried_again() -> None:
    decoded = Decoded(100)

    def broken() -> np.ndarray:
        raise OSError("the card was out")

    with pytest.raises(OSError, match="card was out"):
        decoded.get("a", broken)
    assert decoded.get("a", array(3)).size == 3


def test_a_bound_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="give 0 or more"):
        Decoded(-1)


@pytest.mark.parametrize("most", [0, 3000, 10**6])
def test_batches_are_the_same_whatever_is_kept(tmp_path: Path, most: int) -> None:
    draw = np.random.default_rng(0)
    samples = []
    for number in range(5):
        image, label = tmp_path / f"{number}.jpg", tmp_path / f"{number}.png"
        image.write_bytes(encode_jpeg(draw.integers(0, 255, (64, 96, 3), dtype=np.uint8)))
        label.write_bytes(encode_png(draw.integers(0, 3, (64, 96), dtype=np.uint8)))
        samples.append(TrainingSample(image, label, void=(2,)))
    options = BatchOptions(num_classes=3, batch_size=2, size=(24, 32), zoom=(0.4, 1.5))
    decoded = Decoded(most)
    assert class_frequencies(samples, 3, decoded).tolist() == class_frequencies(samples, 3).tolist()
    plan, plain = BatchPlan(samples, options, decoded), BatchPlan(samples, options)
    for step in range(3 * plan.steps_per_epoch):
        found, expected = plan.load(step), plain.load(step)
        assert np.array_equal(found.images, expected.images)
        assert np.array_equal(found.labels, expected.labels)
    assert decoded.bytes <= most
    if most == 10**6:
        for sample in samples:  # from here on nothing is read any more
            sample.image.unlink()
            sample.label.unlink()
        plan.load(0)
