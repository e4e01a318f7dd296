from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dance_ondevice.complexity import make_indicator
from dance_ondevice.learnt_loss import (
    LearntLoss,
    LossWeights,
    describe,
    judged_fit,
    learn_loss,
    out_of_group,
)

SCALES = (1.0, 0.75, 0.5)

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
images = arrays(np.uint8, shapes)


def texture(seed: int, size: int = 64) -> np.ndarray:
    """Noise of several octaves, of full contrast: an image with detail at every scale."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size, size), np.float32)
    for octave in range(5):
        cells = rng.normal(size=(4 << octave, 4 << octave)).astype(np.float32)
        total += cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC) / (1 + octave)
    return cv2.normalize(total, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def lessons(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Images with more or less noise to the left, which alone decides the losses, and to the right."""
    rng = np.random.default_rng(seed)
    images, losses = [], []
    for _ in range(count):
        left, right = rng.uniform(2, 40, 2)
        noise = rng.normal(size=(120, 160)) * np.where(np.arange(160) < 80, left, right)
        images.append(np.clip(128 + noise, 0, 255).astype(np.uint8))
        losses.append([0.002 * left, 0.006 * left])
    return images, np.array(losses)


def learnt(count: int = 80) -> LearntLoss:
    images, losses = lessons(count, 1)
    return LearntLoss(learn_loss(np.stack([describe(image) for image in images]), losses, (0.75, 0.5)))


def test_learnt_loss_tells_the_losses_of_other_frames() -> None:
    indicator = learnt()
    images, losses = lessons(20, 2)
    found = [indicator.measure(image) for image in images]
    told = np.array([[each.by_scale[0.75], each.by_scale[0.5]] for each in found])
    assert (np.abs(told - losses).mean(axis=0) < 0.4 * losses.std(axis=0)).all()
    order = np.argsort(losses[:, 1])
    scores = np.array([each.score for each in found])
    assert np.corrcoef(np.argsort(order), np.argsort(np.argsort(scores)))[0, 1] > 0.95
    # A formula is misled by the right half.
    formula = make_indicator("edge_density", SCALES)
    misled = [formula.measure(image).score for image in images]
    assert np.corrcoef(np.argsort(order), np.argsort(np.argsort(misled)))[0, 1] < 0.9


@given(image=images, seed=st.integers(0, 99))
def test_learnt_scores_are_fractions_for_any_image(image: np.ndarray, seed: int) -> None:
    row = tuple(np.random.default_rng(seed).normal(0, 1e3, 144).tolist())
    steep = LossWeights(
        scales=(0.75, 0.5), weights=(row, row), bias=(0.0, 0.0), typical=(0.0, 0.1), spread=(1e-6, 1.0)
    )
    found = LearntLoss(steep).measure(image)
    assert 0.0 <= found.score <= 1.0
    assert set(found.by_scale) == {0.75, 0.5}
    assert all(0.0 <= loss <= 1.0 for loss in found.by_scale.values())


def test_a_typical_loss_scores_a_half_and_a_deviation_more_scores_as_the_logistic_function() -> None:
    flat = LossWeights(
        scales=(0.75, 0.5),
        weights=((0.0,) * 144, (0.0,) * 144),
        bias=(0.1, 0.3),
        typical=(0.1, 0.2),
        spread=(0.1, 0.1),
    )
    found = LearntLoss(flat).measure(texture(1))
    assert found.score == pytest.approx(1 / (1 + np.exp(-1)))
    assert found.by_scale == {0.75: pytest.approx(0.1), 0.5: pytest.approx(0.3)}


def test_a_description_is_where_brightness_and_detail_are() -> None:
    image = np.zeros((240, 320), np.uint8)
    image[:40, :40] = 128
    image[200:, 280::2] = 200
    luma, across, down = describe(image).reshape(3, 6, 8)
    assert luma[0, 0] == pytest.approx(2.0)
    assert np.argwhere(luma).tolist() == [[0, 0], [5, 7]]
    assert np.unravel_index(np.argmax(across), across.shape) == (5, 7)
    assert across[0, 0] == pytest.approx(np.log(1 + 128 / 40))
    assert down[0, 0] == pytest.approx(np.log(1 + 128 / 40))
    assert np.count_nonzero(down) == 2
    assert down[4, 7] == pytest.approx(np.log(1 + 200 * 20 / 1600))


def test_noise_teaches_next_to_nothing() -> None:
    rng = np.random.default_rng(5)
    found = learn_loss(rng.normal(size=(60, 144)).astype(np.float32), rng.normal(0.1, 0.02, (60, 1)), (0.5,))
    assert found.typical == (pytest.approx(0.1, abs=0.01),)
    assert found.spread[0] < 0.5 * 0.02


@pytest.mark.slow
def test_neighbours_in_time_do_not_vouch_for_each_other() -> None:
    rng = np.random.default_rng(8)
    # 30 scenes of 10 frames, whose losses have nothing to do with what they look like.
    descriptions = np.repeat(rng.normal(size=(30, 144)), 10, axis=0).astype(np.float32)
    losses = np.repeat(rng.normal(0.1, 0.02, size=(30, 1)), 10, axis=0)
    found = learn_loss(descriptions, losses, (0.5,))
    assert found.spread[0] < 0.2 * losses.std()
    # In another order every block knows every scene.
    order = rng.permutation(300)
    fooled = learn_loss(descriptions[order], losses[order], (0.5,))
    assert fooled.spread[0] > 0.9 * losses.std()


def test_what_hardly_changed_does_not_decide_when_it_does() -> None:
    images, losses = lessons(40, 6)
    still = np.stack([describe(image) for image in images])
    still[:, 0] = 2 + 1e-5 * losses[:, 0]
    found = learn_loss(still, losses, (0.75, 0.5))
    changed = still.mean(axis=0)
    changed[0] += 0.1
    assert abs(np.dot(found.weights[1], changed) + found.bias[1] - found.typical[1]) < losses[:, 1].std()


def test_learning_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match=r"\(2, 144\) .* and \(2, 1\) losses at 1 scales: .*3 frames"):
        learn_loss(np.zeros((2, 144), np.float32), np.zeros((2, 1)), (0.5,))
    with pytest.raises(ValueError, match="a loss for each scale"):
        learn_loss(np.zeros((4, 144), np.float32), np.zeros((4, 1)), (0.75, 0.5))


def test_alike_frames_teach_their_mean_loss() -> None:
    found = LearntLoss(
        learn_loss(np.ones((4, 144), np.float32), np.array([[0.1], [0.3], [0.1], [0.3]]), (0.5,))
    )
    assert found.measure(texture(1)).by_scale[0.5] == pytest.approx(0.2, abs=0.02)


def test_a_group_is_judged_by_what_the_others_taught() -> None:
    found, losses = lessons(60, 4)
    seen = np.stack([describe(image) for image in found])
    groups = [n // 15 for n in range(60)]
    predicted = out_of_group(seen, losses, (0.75, 0.5), groups)
    assert np.corrcoef(predicted[:, 1], losses[:, 1])[0, 1] > 0.9
    # What is told of a group does not depend on that group's losses.
    changed = losses.copy()
    changed[:15] += 1.0
    told = out_of_group(seen, changed, (0.75, 0.5), groups)
    assert told[:15] == pytest.approx(predicted[:15])
    assert not np.allclose(told[15:], predicted[15:])
    fit = judged_fit(seen, losses, (0.75, 0.5), groups)
    assert fit.agreement is not None
    assert fit.agreement > 0.9
    assert fit.better_than_chance


def test_noise_is_no_better_than_chance_and_one_group_is_not_judged() -> None:
    rng = np.random.default_rng(2)
    seen, losses = rng.normal(size=(60, 144)).astype(np.float32), rng.normal(0.1, 0.02, (60, 1))
    groups = [n % 4 for n in range(60)]
    assert not judged_fit(seen, losses, (0.5,), groups).better_than_chance
    assert judged_fit(seen, losses, (0.5,), [0] * 60).agreement is None


def test_where_nothing_can_be_learnt_groups_are_not_ranked_backwards() -> None:
    alike = np.ones((40, 144), np.float32)
    losses = np.repeat(np.arange(8) / 10, 5)[:, None]  # each group loses more than the one before it
    groups = np.repeat(np.arange(8), 5).tolist()
    assert np.abs(out_of_group(alike, losses, (0.5,), groups)).max() < 1e-9
    rng = np.random.default_rng(4)
    found = [
        judged_fit(rng.normal(size=(40, 6)).astype(np.float32), losses[rng.permutation(40)], (0.5,), groups)
        for _ in range(12)
    ]
    assert abs(np.mean([fit.agreement or 0.0 for fit in found])) < 0.12
