from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.inference.frame_signals import frame_signals
from dance_ondevice.policies.stream.conditions import FIGURES
from dance_ondevice.policies.stream.drift import SIGNALS


def flat(blue: int, green: int, red: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), (blue, green, red), np.uint8)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32), st.floats(0, 1))
def test_every_frame_has_figures_within_their_range(height: int, width: int, seed: int, score: float) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    found = frame_signals(image, score)
    assert found.keys() == FIGURES.keys()
    for name, value in found.items():
        assert SIGNALS[name].low <= value <= SIGNALS[name].high
    assert found["complexity"] == score


@pytest.mark.parametrize(
    ("image", "luma", "warmth", "tint"),
    [
        (flat(255, 255, 255), 1.0, 0.0, 0.0),
        (flat(0, 0, 255), 0.299, 1.0, -0.5),
        (flat(0, 255, 0), 0.587, 0.0, 1.0),
        (flat(255, 0, 0), 0.114, -1.0, -0.5),
    ],
)
def test_colours_are_told(image: np.ndarray, luma: float, warmth: float, tint: float) -> None:
    found = frame_signals(image, 0.0)
    assert (found["luma"], found["warmth"], found["tint"]) == pytest.approx((luma, warmth, tint), abs=1e-6)
    assert found["contrast"] == pytest.approx(0.0, abs=1e-6)


def test_contrast_is_the_deviation_of_luma() -> None:
    halves = np.concatenate([flat(0, 0, 0), flat(255, 255, 255)], axis=1)
    assert frame_signals(halves, 0.0)["contrast"] == pytest.approx(0.5, abs=0.01)


def test_a_large_frame_looks_like_a_small_one() -> None:
    rng = np.random.default_rng(0)
    small = np.kron(rng.integers(0, 256, (12, 16, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
    large = np.kron(small, np.ones((20, 20, 1), np.uint8))
    for name, value in frame_signals(small, 0.3).items():
        assert frame_signals(large, 0.3)[name] == pytest.approx(value, abs=0.03), name
