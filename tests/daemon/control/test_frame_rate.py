from __future__ import annotations

from dance_ondevice.daemon.control.status import FrameRate


def test_the_rate_is_that_since_it_was_last_asked() -> None:
    rate = FrameRate(now=100.0)
    assert rate.update(50, 105.0) == 10.0
    assert rate.update(50, 110.0) == 0.0
    assert rate.update(53, 111.0) == 3.0
