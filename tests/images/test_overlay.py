from __future__ import annotations

import numpy as np

from dance_ondevice.images.labels import IGNORE, class_colours
from dance_ondevice.images.overlay import overlay


def test_the_colours_alone_are_those_of_the_palette() -> None:
    mask = np.zeros((240, 320), np.uint8)
    mask[:, 100:200] = 3
    mask[:, 200:300] = IGNORE
    mask[:, 300:] = 40
    shown = overlay(mask, None, ("sky", "b", "c", "road"), class_colours(11))
    assert shown.shape[0] == 240
    assert shown.shape[1] > 320
    assert [tuple(map(int, shown[5, x][::-1])) for x in (5, 150, 250, 310)] == [
        class_colours(11)[0], class_colours(11)[3], (0, 0, 0), (255, 255, 255),
    ]  # fmt: skip


def test_the_frame_shows_through_whatever_its_size() -> None:
    mask = np.zeros((240, 320), np.uint8)
    dark = overlay(mask, np.zeros((120, 160, 3), np.uint8), ("sky",), [(200, 100, 50)])
    bright = overlay(mask, np.full((480, 640, 3), 255, np.uint8), ("sky",), [(200, 100, 50)])
    assert tuple(map(int, dark[5, 5][::-1])) == (100, 50, 25)
    assert (bright[5, 5] > dark[5, 5]).all()


def test_a_small_mask_is_made_large_enough_for_its_legend_and_odd_names_do_no_harm() -> None:
    mask = np.arange(60 * 80, dtype=np.uint32).astype(np.uint8).reshape(60, 80)
    shown = overlay(mask, None, ("wei\u00df", "\u9053\u8def"), class_colours(2), caption="caf\u00e9 12:00")
    assert shown.shape[0] == 240
