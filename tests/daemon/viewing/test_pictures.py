from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.viewing import pictures
from dance_ondevice.images.codec import decode_colour, encode_jpeg, encode_png
from dance_ondevice.images.headers import ImageError


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_mask_comes_back_as_it_was(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    assert (pictures.unpack(pictures.pack(mask), (height, width)) == mask).all()


@given(st.binary(max_size=200))
def test_what_is_no_mask_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        pictures.unpack(data, (50, 50))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(200_000_000), 9)
    with pytest.raises(ImageError, match="2500 pixels"):
        pictures.unpack(bomb, (50, 50))


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_a_label_is_corrected_at_a_size_that_a_telephone_can_work_at(height: int, width: int) -> None:
    small_height, small_width = pictures.mask_size(height, width)
    assert 1 <= small_height <= height
    assert 1 <= small_width <= width
    assert small_height * small_width <= 810_000 or min(height, width) < 100


def test_a_mask_of_another_size_keeps_its_regions() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[20:, 30:] = 7
    for size in ((20, 30), (80, 120), (37, 55)):
        other = pictures.shrink(mask, size)
        assert other.shape == size
        assert other[-1, -1] == 7
        assert abs(float((other == 7).mean()) - 0.25) < 0.03
        assert set(np.unique(other)) == {0, 7}


def test_images_are_sent_as_they_are_or_no_larger_than_asked() -> None:
    image = np.random.default_rng(1).integers(0, 256, (120, 400, 3), dtype=np.uint8)
    jpeg = encode_jpeg(image)
    assert pictures._encoded(jpeg, 960).data == jpeg
    for data in (jpeg, encode_png(image)):
        picture = pictures._encoded(data, 100)
        assert picture.kind == "image/jpeg"
        assert decode_colour(picture.data).shape == (30, 100, 3)
