from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import decode_grey, encode_jpeg
from dance_ondevice.images.signature import LENGTH, signature
from dance_ondevice.policies.samples import similarity


def near(one: str, other: str) -> bool:
    return similarity.near(similarity.code(one), similarity.code(other))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_any_image_has_one_and_a_flat_one_has_no_pattern(height: int, width: int, level: int) -> None:
    found = signature(np.full((height, width), level, np.uint8))
    assert len(found) == LENGTH
    assert set(found) <= set("0123456789abcdef")
    assert len(set(found[:-8])) == 1
    assert found[-8:] == "0123456789abcdef"[level // 16] * 8


def test_compression_and_noise_leave_a_frame_a_near_duplicate_and_the_next_second_does_not() -> None:
    camera = StreetCamera(seed=1, height=360, width=480)
    frame, later = camera.render(0, "day")[0], camera.render(1, "day")[0]
    plain = signature(decode_grey(encode_jpeg(frame, 95)))
    noisy = np.clip(frame + np.random.default_rng(0).normal(0, 5, frame.shape), 0, 255).astype(np.uint8)
    assert near(plain, signature(decode_grey(encode_jpeg(frame, 60))))
    assert near(plain, signature(decode_grey(encode_jpeg(noisy, 95))))
    assert not near(plain, signature(decode_grey(encode_jpeg(later, 95))))
    assert not near(plain, signature((decode_grey(encode_jpeg(frame, 95)) // 3).astype(np.uint8)))


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), np.zeros((0, 2), np.uint8)]
)
def test_what_is_no_grey_image_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="grey image"):
        signature(wrong)
