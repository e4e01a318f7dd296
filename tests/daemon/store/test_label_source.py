from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.store import label_source
from dance_ondevice.images.codec import decode_label, encode_png
from dance_ondevice.images.headers import probe

MASK = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize("source", ["teacher", "self"])
def test_a_stamped_label_is_the_same_label_and_says_who_made_it(source: str) -> None:
    stamped = label_source.stamp(encode_png(MASK), source)
    assert label_source.read(stamped) == source
    np.testing.assert_array_equal(decode_label(stamped), MASK)
    assert probe(stamped).width == 4


def test_other_labels_say_nothing() -> None:
    assert label_source.read(encode_png(MASK)) is None
    assert label_source.read(label_source.stamp(encode_png(MASK), "wire")) is None


@given(st.binary(max_size=80))
def test_no_bytes_do_more_than_say_nothing(data: bytes) -> None:
    assert label_source.read(data) is None
