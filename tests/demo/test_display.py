from __future__ import annotations

import io
from pathlib import Path

import made_up_demo as made_up
from rich.console import Console

from dance_ondevice.demo.display import Display
from dance_ondevice.demo.reporting.summary import print_summary


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plain() -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=False)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_lines_at_each_stage_and_every_few_seconds() -> None:
    console, clock = plain(), Clock()
    with Display(console, 230, monotonic=clock) as display:
        display.show("pretraining", {"step": 1})
        clock.now += 1
        display.show("pretraining", {"step": 2})
        clock.now += 5
        display.show("pretraining", {"step": 3})
        clock.now += 0.1
        display.show("streaming", {"[bold]sent": "[red]4"})

    assert text(console).splitlines() == [
        "[   0 s] pretraining: step 1",
        "[   6 s] pretraining: step 3",
        "[   6 s] streaming: [bold]sent [red]4",
    ]


def test_terminal_shows_stage_and_facts() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with Display(console, 230) as display:
        display.show("streaming dusk", {"frames": "12 sent, [5] kept"})

    assert "streaming dusk" in text(console)
    assert "12 sent, [5] kept" in text(console)


def test_summary_names_figures_and_report() -> None:
    console = plain()
    print_summary(console, made_up.report(), Path("out"))
    said = text(console)

    for part in ("0.334", "0.452", "+0.118", "promoted", "672 kept", "out/report.html", "all conditions met"):
        assert part in said


def test_summary_of_a_failure_says_which_condition() -> None:
    console = plain()
    print_summary(console, made_up.report(masks_received=0), Path("out"))

    assert "failed: no mask came back" in text(console)
    assert "all conditions met" not in text(console)
