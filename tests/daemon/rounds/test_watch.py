"""What a trainer tells of itself, as the round's record gets it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.children.watcher import Ended
from dance_ondevice.daemon.rounds.watch import EarlyEnd, _Watch


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
