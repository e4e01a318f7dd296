from __future__ import annotations

import logging

import pytest

from dance_ondevice.daemon.system.guard import Guard


def test_a_failure_is_survived_reported_each_time_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    reported: list[tuple[str, str]] = []
    words: list[str] = []
    guard = Guard(lambda what, text: reported.append((what, text)))
    texts = iter(["full", "full", "broken", "", "broken"])

    def work() -> None:
        if text := next(texts):
            raise OSError(text)

    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            guard.run("writing", work)
        guard.run("writing", work, words.append)
    assert reported == [
        *[("writing", "OSError: full")] * 2,
        ("writing", "OSError: broken"),
    ]
    assert words == ["OSError: broken"]
    assert len(caplog.records) == 3, "the first, the other one, and the one after it was well again"
