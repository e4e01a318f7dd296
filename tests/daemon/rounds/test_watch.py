"""What a trainer tells of itself, as the round's record gets it."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.watcher import Ended
from dance_ondevice.daemon.rounds.watch import EarlyEnd, Progress, ProgressNotes, _Watch


def note_of(*events: jobs.Event) -> str:
    watching = _Watch(cast("Any", None), "r1", EarlyEnd(), lambda _: None)
    for event in (*events, jobs.Done(1, 1, 1, "fp32", steps=1)):
        watching.take(event)
    ended = SimpleNamespace(exit=SimpleNamespace(status=0, cpu_seconds=1.0), peak_bytes=0)
    return watching.result(cast("Ended", ended), cast("Any", None)).device_note


def test_a_round_says_why_it_was_not_trained_on_the_gpu() -> None:
    assert note_of() == note_of(jobs.OnDevice("cuda")) == note_of(jobs.OnDevice("cpu")) == ""
    why = "the GPU has 200 MB free, 512 MB are needed"
    assert note_of(jobs.OnDevice("cpu", why)) == f"trained on the CPU: {why}"
    told = jobs.decode_event(jobs.encode(jobs.OnDevice("cpu", why)))
    assert note_of(told) == f"trained on the CPU: {why}"


def test_a_round_logs_now_and_then_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    clock = iter([0.0, 9.9, 10.0, 10.0, 19.0])
    spent = iter([None, 3.0, 4.0])
    seen: list[Progress] = []
    notes = ProgressNotes(seen.append, lambda: next(spent), lambda: next(clock))
    with caplog.at_level(logging.INFO):
        for step in (1, 2, 3):
            notes.report(Progress("r1", step, 9, 0.5, 0.25))
    assert [each.joules for each in seen] == [None, 3.0, 4.0]
    assert caplog.messages == ["round training round=r1 step=2 steps=9 loss=0.5 miou=0.25 joules=3"]
