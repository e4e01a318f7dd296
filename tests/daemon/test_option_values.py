from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.daemon.terminal import comma_names, size_of

PARAMETER = click.Option(["--it"])
CONTEXT = click.Context(click.Command("c"))


@given(st.integers(32, 10_000), st.integers(32, 10_000))
def test_a_size_is_height_and_width(width: int, height: int) -> None:
    assert size_of(32)(CONTEXT, PARAMETER, f"{width}x{height}") == (height, width)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("480", "'480' is not WIDTHxHEIGHT, such as 480x360"),
        ("x", "'x' is not"),
        ("-64x64", "'-64x64' is not"),
        ("64x63", "64x63: both sides must be 64 pixels or more"),
    ],
)
def test_what_is_no_size_is_told(text: str, told: str) -> None:
    with pytest.raises(click.BadParameter, match=told):
        size_of(64)(CONTEXT, PARAMETER, text)


def test_no_size_stays_none() -> None:
    assert size_of(64)(CONTEXT, PARAMETER, None) is None


def test_names_stand_between_commas() -> None:
    assert comma_names(CONTEXT, PARAMETER, " a, b,,c ") == ("a", "b", "c")
    assert comma_names(CONTEXT, PARAMETER, "") == ()
