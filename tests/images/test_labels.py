from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dance_ondevice.images.labels import (
    IGNORE,
    STREET_CLASSES,
    LabelError,
    check_label,
    class_colours,
    colourise,
)

masks = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def test_the_street_has_camvids_classes_in_order() -> None:
    assert len(STREET_CLASSES) == 11
    assert [STREET_CLASSES.index(name) for name in ("sky", "road", "car", "bicyclist")] == [0, 3, 8, 10]


@given(masks, st.integers(1, 255))
def test_check_label_accepts_exactly_classes_and_ignore(mask: np.ndarray, n_classes: int) -> None:
    wrong = set(mask.ravel().tolist()) - set(range(n_classes)) - {IGNORE}
    if not wrong:
        check_label(mask, n_classes)
        return
    with pytest.raises(LabelError) as caught:
        check_label(mask, n_classes)
    assert str(min(wrong)) in str(caught.value)
    assert f"0 to {n_classes - 1} and 255" in str(caught.value)


def test_check_label_says_which_ids_in_how_many_pixels() -> None:
    mask = np.array([[0, 11, 11], [255, 40, 10]], np.uint8)
    with pytest.raises(LabelError, match=r"ids 11, 40 in 3 pixels"):
        check_label(mask, 11)


def test_check_label_names_only_some_of_many_ids() -> None:
    with pytest.raises(LabelError, match=r"19, \.\.\. in 190 pixels"):
        check_label(np.arange(200, dtype=np.uint8).reshape(10, 20), 10)


@pytest.mark.parametrize("label", [np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4), np.int64)])
def test_check_label_refuses_other_arrays(label: np.ndarray) -> None:
    with pytest.raises(LabelError, match=r"\(H, W\) uint8"):
        check_label(label, 11)


@given(masks, st.integers(1, 60))
def test_colours_tell_classes_apart(mask: np.ndarray, n_classes: int) -> None:
    painted = colourise(mask, n_classes)
    assert painted.shape == (*mask.shape, 3)
    assert painted.dtype == np.uint8
    seen = {int(i): tuple(painted[mask == i][0].tolist()) for i in np.unique(mask)}
    known = [colour for i, colour in seen.items() if i < n_classes]
    assert len(set(known)) == len(known)
    for i, colour in seen.items():
        assert (colour == (0, 0, 0)) == (i == IGNORE)
        assert (colour == (255, 255, 255)) == (n_classes <= i < IGNORE)


def test_colours_are_bgr_and_fixed() -> None:
    assert colourise(np.array([[1]], np.uint8), 11).tolist() == [[[0, 0, 128]]]  # a building is dark red


@pytest.mark.parametrize("n_classes", [0, 256])
def test_class_counts_beyond_a_byte_are_refused(n_classes: int) -> None:
    with pytest.raises(ValueError, match="n_classes"):
        colourise(np.zeros((1, 1), np.uint8), n_classes)


def test_colours_are_those_that_masks_are_painted_in() -> None:
    painted = colourise(np.arange(20, dtype=np.uint8)[None], 20)[0]

    assert [tuple(reversed(bgr)) for bgr in painted.tolist()] == class_colours(20)
    assert len(set(class_colours(20))) == 20
