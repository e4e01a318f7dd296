from __future__ import annotations

import re
from base64 import b64decode
from html.parser import HTMLParser

import made_up
import pytest

from dance_ondevice.demo.chart import Series, grouped_bars
from dance_ondevice.demo.page import Pictures, Swatch, render

VOID = {"meta", "br", "img", "line", "rect"}
NASTY = '<script>alert("x")</script> & "quoted"'


class Checker(HTMLParser):
    """Fails on tags that are not closed in order; remembers attributes and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def pictures(*phases: str) -> list[Pictures]:
    return [
        Pictures(phase=p, frame_jpeg=b"jpeg", label_png=b"label", frozen_png=b"frozen", live_png=b"live")
        for p in phases
    ]


def parse(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def test_page_is_well_formed_and_complete() -> None:
    report = made_up.report()
    page = render(report, pictures("day", "dusk", "rain", "day again"), [Swatch("sky", (1, 2, 3))])
    found = parse(page)

    assert page.startswith("<!DOCTYPE html>")
    assert found.tags.count("img") == 16
    assert found.tags.count("svg") == 1
    for said in (
        "all conditions met",
        "0.452",
        "0.334",
        "672",
        "v0002",
        "95.5 M",
        "412 J",
        "modelled",
        "killed by",
    ):
        assert said in found.text
    for one in report.rounds:
        assert all(reason in found.text for reason in one.reasons)


def test_page_needs_nothing_from_outside() -> None:
    page = render(made_up.report(), pictures("day"), [Swatch("sky", (1, 2, 3))])
    found = parse(page)
    links = [
        value or "" for name, value in found.attributes if name in {"src", "href", "xlink:href", "srcset"}
    ]

    assert links
    assert all(link.startswith("data:image/") for link in links)
    assert not re.search(r"https?://|@import|url\(|<link|<script", page)


def test_pictures_are_in_the_page() -> None:
    found = parse(render(made_up.report(), pictures("dusk"), []))
    sources = [value or "" for name, value in found.attributes if name == "src"]

    assert [b64decode(source.split(",")[1]) for source in sources] == [b"jpeg", b"label", b"frozen", b"live"]
    assert sources[0].startswith("data:image/jpeg;base64,")
    assert sources[1].startswith("data:image/png;base64,")


def test_text_is_escaped() -> None:
    report = made_up.report(
        rounds=(made_up.round_(1, NASTY, reasons=(NASTY,), phase=NASTY, method=NASTY),),
        phases=(made_up.phase(NASTY, "dusk", 0.1, 0.05, live_version=NASTY),),
    )
    page = render(report, pictures(NASTY), [Swatch(NASTY, (0, 0, 0))])
    found = parse(page)

    assert "script" not in found.tags
    assert "<script" not in page
    assert found.text.count(NASTY) >= 6


def test_a_failed_run_says_why() -> None:
    found = parse(render(made_up.report(masks_received=0), [], []))

    assert "no mask came back" in found.text
    assert "all conditions met" not in found.text


def test_a_run_without_rounds_still_makes_a_page() -> None:
    parse(render(made_up.report(rounds=(), versions=(), phases=()), [], []))


def test_bars_are_as_high_as_their_values() -> None:
    svg = grouped_bars("t", ("a", "b"), (Series("one", "x", (0.4, 0.2)), Series("two", "y", (0.0, 0.1))))
    heights = [float(h) for h in re.findall(r'<rect[^>]* height="([0-9.]+)"', svg)]

    assert len(heights) == 4
    assert heights[2] == pytest.approx(heights[0] / 2)
    assert heights[1] == 0
    assert "a, one: 0.400" in svg


def test_bars_stay_inside_the_chart() -> None:
    svg = grouped_bars("t", ("a",), (Series("one", "x", (1.0,)),))
    tops = [float(y) for y in re.findall(r'<rect[^>]* y="([0-9.]+)"', svg)]

    assert all(y >= 0 for y in tops)


def test_a_series_must_fit_the_groups() -> None:
    with pytest.raises(ValueError, match="one has 1 values for 2 groups"):
        grouped_bars("t", ("a", "b"), (Series("one", "x", (0.4,)),))
