from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.policies.rounds.shrinking import MIN_BATCH, MIN_SCALE, RoundSize, regrow, shrink

FULL = RoundSize(8)


def test_batches_shrink_first_then_images_then_nothing_is_left() -> None:
    sizes, size = [], shrink(FULL)
    while size is not None:
        sizes.append((size.batch_size, size.scale))
        size = shrink(size)
    assert sizes == [(4, 1.0), (2, 1.0), (2, 0.75), (2, 0.5625), (2, 0.5)]


@given(st.integers(1, 1000), st.floats(0.1, 1.0))
def test_shrinking_ends_and_never_grows(batch: int, scale: float) -> None:
    size: RoundSize | None = RoundSize(batch, scale)
    for _ in range(30):
        assert size is not None
        smaller = shrink(size)
        if smaller is None:
            break
        assert smaller.batch_size * smaller.scale < size.batch_size * size.scale
        assert smaller.batch_size >= min(MIN_BATCH, batch)
        assert smaller.scale >= min(MIN_SCALE, scale)
        size = smaller
    else:
        raise AssertionError("it goes on for ever")


def test_what_fitted_is_kept_and_grows_back_where_there_is_room() -> None:
    last = RoundSize(2, 0.75)
    assert regrow(FULL, last, 800, 1000) == last
    assert regrow(FULL, last, None, 1000) == last
    assert regrow(FULL, last, 400, 1000) == RoundSize(2, 1.0)
    assert regrow(FULL, RoundSize(2), 400, 1000) == RoundSize(4)
    assert regrow(FULL, RoundSize(4), 400, 1000) == FULL
    assert regrow(FULL, FULL, 999, 1000) == FULL
    # A smaller batch that was asked for since is no shrinking.
    assert regrow(RoundSize(4), FULL, 999, 1000) == RoundSize(4)
