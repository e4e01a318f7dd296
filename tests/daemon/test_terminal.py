"""Tables for people on a terminal of 80 characters."""

from __future__ import annotations

import click
import pytest

from dance_ondevice.daemon.terminal import print_table, show

ID = "phone-1796052097236867-59"
WHY = "the label is 640x360, the frame 480x360 and its stored image 240x180: draw on one of the two"


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 characters, without colours."""
    for name, value in (("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)


def test_ids_stay_whole_and_columns_without_room_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Samples", ("id", "captured", "b", "c"), [(ID, "2026-11-30 15:21:37", "x" * 30, "y" * 30)])
    said = capsys.readouterr().out
    assert ID in said
    assert "2026-11-30 15:21:37" in said
    assert said.endswith("not shown for want of width: b, c\n")


def test_sentences_are_wrapped_and_nothing_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Refused", ("file", "why"), [(ID, WHY)])
    said = capsys.readouterr().out
    assert ID in said
    assert "not shown" not in said
    assert all(word in said for word in WHY.split())
    assert max(map(len, click.unstyle(said).splitlines())) <= 80


def test_a_value_wider_than_the_terminal_is_broken_and_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_table("Samples", ("id", "size"), [(ID, "480x360")])
    said = capsys.readouterr().out
    assert "".join(line.split("│")[1].strip() for line in said.splitlines() if "│" in line) == ID


def test_what_rounding_leaves_of_a_sum_is_nothing() -> None:
    assert [show(value) for value in (1.735e-18, -1e-12, 0.0, 0.00012345)] == ["0", "0", "0", "0.0001234"]
