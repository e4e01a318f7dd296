"""What is told of refused frames: the last ones, for a while, and nothing that could steer a terminal."""

from __future__ import annotations

from dance_ondevice.daemon.metrics.refusals import Refusals, Refused


def test_refusals_are_told_while_they_are_recent() -> None:
    now = [1000.0]
    refusals = Refusals(monotonic=lambda: now[0])
    assert refusals.recent() is None
    refusals.refused("", "no header")
    now[0] += 30
    refusals.refused("front", "the label is 4x4, the image 8x8")
    now[0] += 5
    text = "the label is 4x4, the image 8x8"
    assert refusals.recent() == Refused(camera="front", frames=2, text=text, age=5.0)
    now[0] += 600
    assert refusals.recent() is None
    refusals.refused("rear", "no header")
    assert refusals.recent() == Refused(camera="rear", frames=1, text="no header", age=0.0)


def test_what_a_sender_wrote_cannot_steer_a_terminal_or_fill_the_report() -> None:
    refusals = Refusals(monotonic=lambda: 0.0)
    refusals.refused("fr\x1b[2Jont\n", "x" * 5000 + "\u202e")
    told = refusals.recent()
    assert told is not None
    assert told.camera == "fr?[2Jont?"
    assert told.text == "x" * 200 + "..."
