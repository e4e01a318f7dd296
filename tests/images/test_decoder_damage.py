from __future__ import annotations

import numpy as np
import pytest

from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.brightness import luma_and_contrast
from dance_ondevice.images.codec import decode_grey, encode_jpeg
from dance_ondevice.images.decoder_damage import flat_below, looks_damaged

SCENE = StreetCamera(seed=1, height=96, width=128).render(3, "day")[0]


def grey(image: np.ndarray) -> np.ndarray:
    return decode_grey(encode_jpeg(image), 1)


@pytest.mark.parametrize("colour", [(128, 128, 128), (0, 135, 0)])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_picture_whose_lower_part_a_decoder_filled_looks_damaged(
    colour: tuple[int, int, int], share: float
) -> None:
    broken = SCENE.copy()
    broken[round(96 * (1 - share)) :] = colour
    assert looks_damaged(grey(broken))
    # A row or so of the seam is neither.
    assert flat_below(grey(broken)) == pytest.approx(share, abs=0.1)


@pytest.mark.slow
def test_whole_pictures_do_not() -> None:
    for number in range(0, 200, 25):
        for condition in ("day", "dusk", "rain"):
            image, _ = StreetCamera(seed=2, height=96, width=128).render(number, condition)
            assert not looks_damaged(grey(image)), (number, condition)
    assert not looks_damaged(np.full((90, 120), 128, np.uint8))  # a covered lens
    letterbox = grey(SCENE).copy()
    letterbox[70:] = 0
    assert not looks_damaged(letterbox)


def test_luma_and_contrast_are_the_mean_and_the_deviation_of_the_grey_levels() -> None:
    picture = np.array([[0, 255], [255, 0]], np.uint8)
    luma, contrast = luma_and_contrast(picture)
    assert luma_and_contrast(np.full((4, 4), 51, np.uint8))[1] == 0
    assert luma > luma_and_contrast(np.zeros((2, 2), np.uint8))[0]
    assert contrast > luma_and_contrast(np.array([[100, 155]], np.uint8))[1]
