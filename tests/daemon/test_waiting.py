"""What a command waits for is told: on a terminal in one line that changes, in a pipe a line now and then."""

from __future__ import annotations

import io

from dance_ondevice.daemon.terminal import Waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(stream: io.StringIO, seconds: int) -> str:
    clock = [100.0]
    waiting = Waiting(stream=stream, monotonic=lambda: clock[0])
    for second in range(seconds):
        clock[0] = 100.0 + second
        waiting.say(f"step {second}")
    waiting.close()
    return stream.getvalue()


def test_a_pipe_gets_a_line_every_ten_seconds() -> None:
    assert told(io.StringIO(), 25) == "0 s: step 0\n10 s: step 10\n20 s: step 20\n"


def test_a_terminal_gets_one_line_that_changes_and_goes() -> None:
    text = told(Terminal(), 3)
    assert "\n" not in text
    assert text.startswith("\r0 s: step 0\r1 s: step 1\r2 s: step 2")
    assert text.endswith(" \r")
