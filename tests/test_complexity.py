from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dance_ondevice.complexity import (
    INDICATORS,
    Indicator,
    label_boundary_density,
    make_indicator,
)
from dance_ondevice.images.brightness import luma_and_contrast
from dance_ondevice.images.codec import encode_jpeg
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.images.signature import signature

SCALES = (1.0, 0.75, 0.5)

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
images = arrays(np.uint8, shapes)
each = pytest.mark.parametrize("indicator", [make_indicator(name, SCALES) for name in INDICATORS])
# The JPEG of a flat image has bits too: those of its headers.
each_of_pixels = pytest.mark.parametrize(
    "indicator", [make_indicator(name, SCALES) for name in INDICATORS if name != "jpeg_bits_per_pixel"]
)


def texture(seed: int, size: int = 64) -> np.ndarray:
    """Noise of several octaves, of full contrast: an image with detail at every scale."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size, size), np.float32)
    for octave in range(5):
        cells = rng.normal(size=(4 << octave, 4 << octave)).astype(np.float32)
        total += cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC) / (1 + octave)
    return cv2.normalize(total, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


@each
@given(image=images)
def test_scores_are_fractions(indicator: Indicator, image: np.ndarray) -> None:
    found = indicator.measure(image)
    assert 0.0 <= found.score <= 1.0
    assert all(0.0 <= loss <= 1.0 for loss in found.by_scale.values())


@each_of_pixels
@given(shape=shapes, level=st.integers(0, 255))
def test_a_flat_image_loses_nothing(indicator: Indicator, shape: tuple[int, int], level: int) -> None:
    found = indicator.measure(np.full(shape, level, np.uint8))
    assert found.score == 0.0
    assert not any(found.by_scale.values())


@each
@given(image=arrays(np.uint8, shapes, elements=st.integers(0, 155)), offset=st.integers(0, 100))
def test_brightness_does_not_count(indicator: Indicator, image: np.ndarray, offset: int) -> None:
    brighter = image + np.uint8(offset)
    # Resizing down and up rounds to whole grey levels, for an odd offset by up to one level otherwise: in the
    # mean square of an error of up to the deviation that is much where little varies.
    rounding = (2 * float(image.std()) + 1.0) / (float(image.var()) + 1.0)
    assert indicator.measure(brighter).score == pytest.approx(
        indicator.measure(image).score, abs=0.02 + rounding
    )


@given(seed=st.integers(0, 50), sigma=st.floats(0.6, 4.0))
def test_blur_never_raises_detail_loss(seed: int, sigma: float) -> None:
    indicator = make_indicator("detail_loss", SCALES)
    image = texture(seed)
    blurred = cv2.GaussianBlur(image, (0, 0), sigma)
    before, after = indicator.measure(image), indicator.measure(blurred)
    assert after.score <= before.score + 1e-3
    assert all(after.by_scale[scale] <= before.by_scale[scale] + 1e-3 for scale in SCALES)


@each
def test_texture_scores_above_its_blur(indicator: Indicator) -> None:
    image = texture(3)
    blurred = cv2.GaussianBlur(image, (0, 0), 2.5)
    factor = 2 if indicator.name in ("detail_loss", "edge_density", "spectral_slope") else 1
    assert indicator.measure(image).score > factor * indicator.measure(blurred).score


def test_one_pixel_stripes_are_lost_and_broad_ones_are_not() -> None:
    fine = np.zeros((64, 64), np.uint8)
    fine[:, ::2] = 255
    broad = np.zeros((64, 64), np.uint8)
    broad[:, 32:] = 255
    indicator = make_indicator("detail_loss", SCALES)
    assert indicator.measure(fine).score > 0.99
    assert indicator.measure(broad).score < 0.01


def test_detail_loss_is_the_fraction_of_variance_as_written_down() -> None:
    image = texture(7)
    down = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    up = cv2.resize(down, (64, 64), interpolation=cv2.INTER_LINEAR)
    expected = np.mean((image.astype(float) - up) ** 2) / (image.astype(float).var() + 1.0)
    found = make_indicator("detail_loss", SCALES).measure(image)
    assert found.score == pytest.approx(expected, rel=1e-6)
    assert found.by_scale == {1.0: 0.0, 0.75: found.by_scale[0.75], 0.5: found.score}
    assert 0 < found.by_scale[0.75] < found.score


def test_rounding_noise_in_an_almost_flat_image_is_no_detail() -> None:
    image = np.full((64, 64), 100, np.uint8)
    image[5, 5] = 101
    assert make_indicator("detail_loss", SCALES).measure(image).score < 0.01


@pytest.mark.parametrize("scales", [(1.0,), ()])
def test_without_a_smaller_scale_a_half_is_the_reference(scales: tuple[float, ...]) -> None:
    image = texture(1)
    found = make_indicator("detail_loss", scales).measure(image)
    assert found.score == make_indicator("detail_loss", SCALES).measure(image).score
    assert set(found.by_scale) == set(scales)


def test_edge_density_counts_pixels_beside_a_step() -> None:
    image = np.zeros((10, 20), np.uint8)
    image[:, 10:] = 200
    assert make_indicator("edge_density", SCALES).measure(image).score == pytest.approx(2 / 20)
    assert make_indicator("edge_density", SCALES).measure(image // 20).score == 0.0


def test_luma_entropy_is_eight_bits_for_all_levels_alike_and_one_for_two() -> None:
    indicator = make_indicator("luma_entropy", SCALES)
    assert indicator.measure(np.arange(256, dtype=np.uint8).reshape(16, 16)).score == pytest.approx(1.0)
    assert indicator.measure(np.array([[0, 9], [9, 0]], np.uint8)).score == pytest.approx(1 / 8)


def test_jpeg_bits_are_those_of_the_frame_or_of_an_encoding_made_for_it() -> None:
    indicator = make_indicator("jpeg_bits_per_pixel", SCALES)
    image = texture(2)
    assert indicator.measure(image, 2.0).score == pytest.approx(0.5)
    assert indicator.measure(image, 6.0).score == pytest.approx(0.75)
    bits = 8 * len(encode_jpeg(image, 90)) / image.size
    assert indicator.measure(image).score == pytest.approx(indicator.measure(image, bits).score)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 2.5])
def test_spectral_slope_finds_the_exponent(exponent: float) -> None:
    size = 256
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    radius = np.hypot(fx, fy)
    radius[0, 0] = np.inf
    noise = np.fft.fft2(np.random.default_rng(4).normal(size=(size, size)))
    pixels = np.fft.ifft2(noise * radius ** (-exponent / 2)).real
    image = np.clip(128 + 30 * pixels / pixels.std(), 0, 255).round().astype(np.uint8)
    found = make_indicator("spectral_slope", SCALES).measure(image).score
    # The box that halves an image is no sharp filter, which makes the slope look a little flatter.
    assert found == pytest.approx(1 - exponent / 4, abs=0.08)


def test_a_frame_too_small_for_a_slope_scores_nothing() -> None:
    assert (
        make_indicator("spectral_slope", SCALES).measure(np.array([[0, 255, 0, 255]], np.uint8)).score == 0.0
    )


def test_label_boundary_density_counts_pixels_before_another_class() -> None:
    label = np.zeros((4, 6), np.uint8)
    label[:, 3:] = 1
    assert label_boundary_density(label) == pytest.approx(4 / 24)
    assert label_boundary_density(label.T.copy()) == pytest.approx(4 / 24)
    assert label_boundary_density(np.full((4, 6), 5, np.uint8)) == 0.0


def test_pixels_to_ignore_are_neither_counted_nor_a_boundary() -> None:
    label = np.zeros((4, 6), np.uint8)
    label[:, 3:] = IGNORE
    assert label_boundary_density(label) == 0.0
    label[0, 0] = 1
    assert label_boundary_density(label) == pytest.approx(1 / 12)
    assert label_boundary_density(np.full((2, 2), IGNORE, np.uint8)) == 0.0


def test_names_and_scales_are_checked() -> None:
    assert [make_indicator(name, SCALES).name for name in INDICATORS] == list(INDICATORS)
    with pytest.raises(ValueError, match=r"'entropy'; choose one of detail_loss, edge_density"):
        make_indicator("entropy", SCALES)
    with pytest.raises(ValueError, match=r"\[0.0, 1.5\]"):
        make_indicator("detail_loss", (1.0, 0.0, 1.5))


@each
@pytest.mark.parametrize(
    "picture",
    [texture(1) / 255, texture(1).astype(np.uint16) * 257, np.dstack([texture(1)] * 3), texture(1)[:0]],
    ids=["fractions", "16 bits", "colour", "empty"],
)
def test_a_score_of_anything_but_luma_is_an_error(indicator: Indicator, picture: np.ndarray) -> None:
    for measure in (indicator.measure, luma_and_contrast, signature):
        with pytest.raises(ValueError, match=r"grey image \(H, W\) of uint8"):
            measure(picture)
