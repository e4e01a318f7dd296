from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.demo.shares import EPOCHS, epochs, pretraining_is_over, stream_seconds

seconds = st.floats(0.0, 5000.0)


def test_a_quiet_machine_trains_in_full_and_a_busy_one_as_far_as_time_reaches() -> None:
    assert epochs(epoch_seconds=2.5, elapsed=9.0, max_seconds=480.0) == EPOCHS
    assert epochs(epoch_seconds=25.0, elapsed=65.0, max_seconds=480.0) == 5
    assert epochs(epoch_seconds=25.0, elapsed=65.0, max_seconds=960.0) == EPOCHS
    assert epochs(epoch_seconds=25.0, elapsed=500.0, max_seconds=480.0) == 3


def test_pretraining_is_cut_short_where_the_machine_became_busier() -> None:
    assert not pretraining_is_over(239.0, 480.0)
    assert pretraining_is_over(240.0, 480.0)


def test_the_stream_leaves_time_for_the_evaluation() -> None:
    assert stream_seconds(elapsed=40.0, max_seconds=480.0) == 480.0 - 40.0 - 30.0
    assert stream_seconds(elapsed=200.0, max_seconds=480.0) == 480.0 - 200.0 - 100.0


@given(seconds, seconds, st.floats(60.0, 3600.0))
def test_there_is_always_something_to_see(epoch: float, elapsed: float, whole: float) -> None:
    assert 3 <= epochs(epoch_seconds=epoch, elapsed=elapsed, max_seconds=whole) <= EPOCHS
    assert stream_seconds(elapsed=elapsed, max_seconds=whole) >= 0.3 * whole
