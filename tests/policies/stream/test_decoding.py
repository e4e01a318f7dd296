from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.stream.decoding import REDUCTIONS, Decoding, first_decoding, reduction

SHARES = st.floats(0, 1)
SCALES = st.lists(st.floats(0.05, 1.0), min_size=1, max_size=4).map(tuple)


@given(st.floats(0.01, 1.0))
def test_a_reduced_decode_has_every_pixel_that_is_wanted(scale: float) -> None:
    found = reduction(scale)
    assert found in REDUCTIONS
    assert found == 1 or found * scale <= 1
    assert all(other * scale > 1 for other in REDUCTIONS if other > found)


@given(SCALES, SHARES, SHARES, st.sampled_from(REDUCTIONS))
def test_the_score_can_be_computed_from_the_decode(
    scales: tuple[float, ...], drop: float, served: float, measured_at: int
) -> None:
    found = first_decoding(scales, drop_fraction=drop, served_share=served, measured_at=measured_at)
    assert found.reduce <= measured_at


@given(SCALES, SHARES, st.sampled_from(REDUCTIONS))
def test_where_every_frame_is_segmented_one_decode_is_enough(
    scales: tuple[float, ...], drop: float, measured_at: int
) -> None:
    found = first_decoding(scales, drop_fraction=drop, served_share=1.0, measured_at=measured_at)
    assert found.colour
    if all(scale > 0.5 for scale in scales):
        assert found.reduce == 1


def test_colours_are_decoded_only_where_they_are_needed() -> None:
    def found(*scales: float, drop: float = 0.0, served: float = 0.0) -> Decoding:
        return first_decoding(scales, drop_fraction=drop, served_share=served, measured_at=2)

    assert found(1.0) == Decoding(colour=False, reduce=2)
    assert found(0.5) == Decoding(colour=True, reduce=2)
    assert found(0.75) == Decoding(colour=True, reduce=1)
    assert found(1.0, 0.75, 0.5, served=1.0) == Decoding(colour=True, reduce=1)
    assert found(0.5, drop=0.95) == Decoding(colour=False, reduce=2)
