from __future__ import annotations

import logging

from dance_ondevice.daemon.system.repeats import BURST, RepeatLimit


def test_a_line_once_a_second_for_a_day_stays_bounded_and_says_how_many_were_left_out() -> None:
    mono = [0.0]
    limit = RepeatLimit(lambda: mono[0])
    written: list[str] = []
    for second in range(86_400):
        mono[0] = float(second)
        record = logging.LogRecord("a", logging.ERROR, "f", 10, "keys not read error=%s", (second,), None)
        if limit.filter(record):
            written.append(record.getMessage())
    assert len(written) <= BURST + 86_400 / 60
    left_out = sum(int(line.rpartition("repeated=")[2]) for line in written if "repeated=" in line)
    assert 86_400 - len(written) - left_out < 60
    # Another place in the code has its own share.
    assert limit.filter(logging.LogRecord("a", logging.ERROR, "f", 11, "other", (), None))


def test_what_was_done_is_always_written() -> None:
    limit = RepeatLimit(lambda: 0.0)
    record = logging.LogRecord("a", logging.INFO, "f", 10, "evicted samples=%d", (3,), None)
    assert all(limit.filter(record) for _ in range(100))


def test_what_is_rare_is_written_as_it_is() -> None:
    mono = [0.0]
    limit = RepeatLimit(lambda: mono[0])
    for _ in range(100):
        record = logging.LogRecord("a", logging.WARNING, "f", 10, "round finished", (), None)
        assert limit.filter(record)
        assert record.getMessage() == "round finished"
        mono[0] += 61.0
