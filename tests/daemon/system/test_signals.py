from __future__ import annotations

import os
import signal

import pytest

from dance_ondevice.daemon.system.signals import RELOAD, STOP, Signals, StopWhileStarting


@pytest.mark.parametrize("number", [*STOP, RELOAD])
def test_a_signal_is_waited_for_in_a_queue(number: int) -> None:
    with Signals() as signals:
        assert signals.next(0.001) is None
        os.kill(os.getpid(), number)
        assert signals.next(20) == number


@pytest.mark.parametrize("number", STOP)
def test_a_start_is_ended_at_once(number: int) -> None:
    with Signals() as signals:
        with pytest.raises(StopWhileStarting), signals.starting():
            # Python runs the handler before the call returns.
            os.kill(os.getpid(), number)
        # The second one does not interrupt what puts things away.
        os.kill(os.getpid(), number)


def test_a_reload_does_not_end_a_start() -> None:
    with Signals() as signals:
        with signals.starting():
            os.kill(os.getpid(), RELOAD)
        assert signals.next(20) == RELOAD


def test_the_handlers_from_before_are_back() -> None:
    before = [signal.getsignal(number) for number in (*STOP, RELOAD)]
    with Signals():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (*STOP, RELOAD)] == before
