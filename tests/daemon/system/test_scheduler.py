from __future__ import annotations

import threading

import pytest

from dance_ondevice.daemon.system import schedule as scheduler


def test_the_interval_posts_requests_and_nothing_more() -> None:
    seen: list[str] = []
    twice = threading.Event()

    def tick(trigger: str) -> None:
        seen.append(trigger)
        if len(seen) == 2:
            twice.set()

    clockwork = scheduler.build(0.01, "", tick)
    clockwork.start()
    try:
        assert twice.wait(20)
    finally:
        clockwork.shutdown()
    assert set(seen) == {"interval"}


@pytest.mark.parametrize(("window", "jobs"), [("", {"interval"}), ("01:30-05:00", {"interval", "window"})])
def test_a_window_adds_a_request_at_its_opening(window: str, jobs: set[str]) -> None:
    clockwork = scheduler.build(1800, window, lambda trigger: None)
    assert {job.id for job in clockwork.get_jobs()} == jobs
    for job in clockwork.get_jobs():
        # On purpose: late is better than never, several missed ones are one, never two at once.
        clockwork.start(paused=True) if not clockwork.running else None
        assert (job.coalesce, job.max_instances, job.misfire_grace_time) == (True, 1, None)
    if window:
        assert str(clockwork.get_job("window").trigger.opens) == "01:30:00"
    clockwork.shutdown()


def test_interval_and_opening_change_while_it_runs() -> None:
    clockwork = scheduler.build(1800, "", lambda trigger: None)
    clockwork.start(paused=True)
    try:
        scheduler.change(clockwork, 60, "22:15-05:00", lambda trigger: None)
        assert clockwork.get_job("interval").trigger.interval.total_seconds() == 60
        assert str(clockwork.get_job("window").trigger.opens) == "22:15:00"
        scheduler.change(clockwork, 60, "21:00-05:00", lambda trigger: None)
        assert str(clockwork.get_job("window").trigger.opens) == "21:00:00"
        for job in clockwork.get_jobs():
            assert (job.coalesce, job.max_instances, job.misfire_grace_time) == (True, 1, None)
        scheduler.change(clockwork, 60, "", lambda trigger: None)
        assert [job.id for job in clockwork.get_jobs()] == ["interval"]
        scheduler.change(clockwork, 60, "", lambda trigger: None)
    finally:
        clockwork.shutdown()


def test_the_next_look_is_the_earliest_and_the_opening_while_the_window_is_closed() -> None:
    clockwork = scheduler.build(60, "01:30-05:00", lambda trigger: None)
    assert scheduler.next_look(clockwork, True) is None  # nothing is planned before it runs
    clockwork.start(paused=True)
    try:
        times = {job.id: job.next_run_time for job in clockwork.get_jobs()}
        assert scheduler.next_look(clockwork, True) == min(times.values())
        assert scheduler.next_look(clockwork, False) == times["window"]
    finally:
        clockwork.shutdown()
