"""The size that a network is given a frame at: no padding where there was a choice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.images.masks import STRIDE
from dance_ondevice.images.scaling import inference_size

_SIDES = st.integers(1, 4000)


@given(size=st.tuples(_SIDES, _SIDES), scale=st.floats(0.05, 0.999))
def test_a_smaller_frame_fills_what_the_network_computes(size: tuple[int, int], scale: float) -> None:
    for side, found in zip(size, inference_size(size, scale), strict=True):
        smaller = max(1, round(side * scale))
        assert smaller <= found <= side
        assert found == side or found % STRIDE == 0
        # What is computed has whole strides in any case: as many as of the smaller frame.
        assert -(-found // STRIDE) == -(-smaller // STRIDE)


@given(size=st.tuples(_SIDES, _SIDES))
def test_a_frame_at_full_scale_stays_as_it_is(size: tuple[int, int]) -> None:
    assert inference_size(size, 1.0) == size
