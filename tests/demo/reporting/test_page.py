from __future__ import annotations

import re
from base64 import b64decode
from html.parser import HTMLParser

import made_up_demo as made_up

from dance_ondevice.demo.reporting.page import Pictures, Swatch, render

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


def test_a_bar_below_frozen_is_explained() -> None:
    worse = made_up.phase("day again", "day", 0.609, 0.559, macs_change=-0.2)
    found = parse(render(made_up.report(phases=(worse,)), [], []))

    assert "-0.05 mIoU, 20 % fewer MACs" in found.text
    assert "20 % fewer MACs, 0.050 mIoU less than frozen on day again, more than noise" in found.text
    assert "all conditions met" in found.text


def test_a_shortfall_is_a_sentence_and_no_failure() -> None:
    same = made_up.phase("dusk", "dusk", 0.4, 0.4, rounds=1, capped=True)
    page = render(made_up.report(phases=(same,)), [], [])
    found = parse(page)

    assert "fell short: on dusk the live model" in found.text
    assert "--max-seconds 960" in found.text
    assert "says bad" not in page
    assert 'class="says short"' in page


def test_a_run_without_rounds_still_makes_a_page() -> None:
    parse(render(made_up.report(rounds=(), versions=(), phases=()), [], []))
