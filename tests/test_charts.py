from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from dance_ondevice.charts import Bar, Group, Level, Series, grouped_bars

AXIS = (Level(value=0.0, label="0"), Level(value=0.4, label="0.4"))


def series(name: str, *values: float) -> Series:
    return Series(name=name, css_class="x", bars=tuple(Bar(value=v, title=f"{name} {v}") for v in values))


def groups(*names: str) -> list[Group]:
    return [Group(name=name) for name in names]


def test_bars_are_as_high_as_their_values() -> None:
    svg = grouped_bars("t", groups("a", "b"), (series("one", 0.4, 0.2), series("two", 0.0, 0.1)), AXIS)
    heights = [float(h) for h in re.findall(r'<rect[^>]* height="([0-9.]+)"', svg)]

    assert len(heights) == 4
    assert heights[2] == pytest.approx(heights[0] / 2)
    assert heights[1] == 0
    assert "one 0.4" in svg


@pytest.mark.parametrize("value", [1.0, 0.1])
def test_bars_and_lines_stay_inside_the_chart(value: float) -> None:
    svg = grouped_bars("t", groups("a"), (series("one", value),), AXIS)
    tops = [float(y) for y in re.findall(r' y1?="([0-9.-]+)"', svg)]

    assert all(0 <= y <= 300 for y in tops)


def test_a_file_of_its_own_is_xml_and_brings_its_colours() -> None:
    limit = Level(value=3.0, label="the limit", marked=True)
    svg = grouped_bars("a < b", groups("x & y"), (series("n", 2.0),), (limit,), below="day", standalone=True)
    root = ElementTree.fromstring(svg)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]

    assert {"a < b", "x & y", "the limit", "day"} <= set(texts)
    assert root.find("{http://www.w3.org/2000/svg}style") is not None


def test_a_series_must_fit_the_groups() -> None:
    with pytest.raises(ValueError, match="one has 1 values for 2 groups"):
        grouped_bars("t", groups("a", "b"), (series("one", 0.4),), AXIS)


def test_nothing_above_0_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="above 0"):
        grouped_bars("t", groups("a"), (series("one", 0.0),), AXIS[:1])
