from __future__ import annotations

import random

import numpy as np
import pytest
import rle_encoders
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dance_ondevice.label_formats import rle

Mask = NDArray[np.bool_]


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return np.array(bits, np.bool_).reshape(height, width)


def box(size: tuple[int, int], rows: slice, columns: slice) -> Mask:
    mask = np.zeros(size, np.bool_)
    mask[rows, columns] = True
    return mask


def disc() -> Mask:
    rows, columns = np.mgrid[:360, :480]
    mask: Mask = (rows - 200) ** 2 + (columns - 100) ** 2 < 300
    mask[0, 0] = True
    return mask


# Made with the COCO API (pycocotools 2.0.11, mask.encode) from the same masks.
KNOWN = [
    (box((6, 7), slice(1, 4), slice(2, 6)), "=33000005"),
    (disc(), "01l[m06RoRO6K4L4M2N2N2N2O0O2O0O2O000O2O000000000001N10001N101N101N2N2N2N3L4L5J^Ro3"),
]


@pytest.mark.parametrize(("mask", "text"), KNOWN)
def test_strings_of_the_coco_api(mask: Mask, text: str) -> None:
    np.testing.assert_array_equal(rle.decode_columns(rle.decompress(text), mask.shape), mask)
    assert rle_encoders.compress(rle_encoders.encode_columns(mask)) == text


@given(masks())
def test_runs_and_strings_give_the_mask_back(mask: Mask) -> None:
    counts = rle_encoders.encode_columns(mask)
    assert sum(counts) == mask.size
    assert rle.decompress(rle_encoders.compress(counts)) == counts
    np.testing.assert_array_equal(rle.decode_columns(counts, mask.shape), mask)


@given(st.lists(st.integers(0, 2**40)))
def test_any_counts_survive_compression(counts: list[int]) -> None:
    assert rle.decompress(rle_encoders.compress(counts)) == counts


@given(st.text(max_size=40), st.integers(1, 8), st.integers(1, 8))
def test_no_text_does_more_than_raise_its_error(text: str, height: int, width: int) -> None:
    try:
        mask = rle.decode_columns(rle.decompress(text), (height, width))
    except rle.RleError:
        return
    assert mask.shape == (height, width)


@pytest.mark.parametrize("counts", [[3, 4], [10**12], [-1, 9], [True, 7], [2.5, 5.5]])
def test_runs_that_do_not_fill_the_mask_are_refused(counts: list[int]) -> None:
    with pytest.raises(rle.RleError):
        rle.decode_columns(counts, (2, 4))


def test_runs_may_be_written_in_floating_point() -> None:
    np.testing.assert_array_equal(rle.decode_rows([1.0, 2, 3.0], (2, 3)), [[False, True, True], [False] * 3])


def test_rows_go_along_the_rows_and_may_leave_the_rest() -> None:
    np.testing.assert_array_equal(rle.decode_rows([1, 2], (2, 3)), [[False, True, True], [False] * 3])
    with pytest.raises(rle.RleError):
        rle.decode_rows([1, 6], (2, 3))


def brush(values: list[tuple[bool, list[int]]], count: int) -> list[int]:
    """Pack blocks as Label Studio's brush does: 8-bit values, counts of 4, 4, 8 and 16 bits."""
    bits = f"{count:032b}{7:05b}" + "".join(f"{n - 1:04b}" for n in (4, 4, 8, 16))
    for repeated, block in values:
        length = len(block)
        bits += f"{int(repeated)}{3:02b}{length - 1:016b}"
        bits += "".join(f"{value:08b}" for value in (block[:1] if repeated else block))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


@given(masks(), st.randoms())
def test_a_brush_mask_is_its_alpha(mask: Mask, dice: random.Random) -> None:
    rgba = [value for on in mask.ravel() for value in (3, 200, 90, 255 if on else 0)]
    blocks, start = [], 0
    while start < len(rgba):
        length = dice.randint(1, 9)
        block = rgba[start : start + length]
        blocks.append((len(set(block)) == 1, block))
        start += length
    np.testing.assert_array_equal(rle.decode_brush(brush(blocks, len(rgba)), mask.shape), mask)


@given(st.lists(st.integers(-2, 300), max_size=30))
def test_no_brush_does_more_than_raise_its_error(data: list[int]) -> None:
    with pytest.raises(rle.RleError):
        rle.decode_brush(data, (3, 5))
