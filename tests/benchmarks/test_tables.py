from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dance_ondevice.benchmarks.indicators_report import ImageLoss, IndicatorResult, IndicatorsReport
from dance_ondevice.benchmarks.result import About, ResultError, write_result
from dance_ondevice.benchmarks.tables import main, render

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"


def about(benchmark: str = "indicators", seed: int | None = None) -> About:
    return About(
        benchmark=benchmark,
        command="dance-ondevice bench indicators --root DIR",
        data="camvid, test, 62 images",
        machine="x86_64, 4 cores",
        date="2026-01-02",
        seed=seed,
        version="0.1",
    )


REPORT = IndicatorsReport(
    dataset="camvid",
    split="test",
    learnt_from="train, 9 images",
    model={"architecture": "fastscnn", "version": None},
    miou={"1": 0.5, "0.75": 0.45, "0.5": 0.3},
    grey_decode_microseconds=800.4,
    indicators={
        "good": IndicatorResult(
            needs="", rho={"0.75": 0.5, "0.5": 0.85}, microseconds=80.2, of_grey_decode=0.1
        ),
        "none": IndicatorResult(
            needs="luck", rho={"0.75": None, "0.5": -0.25}, microseconds=None, of_grey_decode=None
        ),
    },
    losses=(ImageLoss(image="a.png", miou=0.5, loss={"0.75": 0.1, "0.5": 0.2}),),
)


def test_the_committed_page_is_what_the_generator_makes() -> None:
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == render(RESULTS)


def test_each_result_tells_where_it_comes_from(tmp_path: Path) -> None:
    write_result(tmp_path / "b.json", about(), REPORT)
    write_result(tmp_path / "a.json", replace(about(seed=7), note="by candlelight"), REPORT)
    page = render(tmp_path)
    assert page.index("(a.json)") < page.index("(b.json)")
    assert "- seed: 7" in page
    assert page.count("- note: ") == page.count("- note: by candlelight") == 1
    assert "- seed: none, nothing is random" in page
    for fact in (
        "`dance-ondevice bench indicators --root DIR`",
        "camvid, test, 62 images",
        "x86_64, 4 cores",
        "2026-01-02, version 0.1",
    ):
        assert page.count(fact) == 2


def test_indicators_are_a_table(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", about(), REPORT)
    lines = render(tmp_path).splitlines()
    start = lines.index(
        "| indicator | rho at 0.75 | rho at 0.5 | us a frame | of a grey decode | on target |"
    )
    assert lines[start + 1 :] == [
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| good | +0.500 | +0.850 | 80 | 10.0% | yes |",
        "| none (needs luck) | - | -0.250 | - | - | no |",
    ]
    assert (
        "Model: architecture fastscnn. mIoU of the set: 0.5000 at 1, 0.4500 at 0.75, 0.3000 at 0.5. "
        "The learnt indicator has learnt from train, 9 images."
    ) in lines


def test_a_result_without_a_table_is_refused_by_name(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", about("unheard"), {})
    with pytest.raises(ResultError, match=r"a\.json: there is no table for bench unheard"):
        render(tmp_path)
    write_result(tmp_path / "a.json", about(), {"dataset": "camvid"})
    with pytest.raises(ResultError, match=r"a\.json: .*missing required field"):
        render(tmp_path)


def test_the_page_is_written_beside_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert "no results yet" in (tmp_path / "README.md").read_text()
    write_result(tmp_path / "a.json", about(), REPORT)
    assert main([str(tmp_path)]) == 0
    assert (tmp_path / "README.md").read_text() == render(tmp_path)
    (tmp_path / "b.json").write_text("{")
    assert main([str(tmp_path)]) == 1
    assert "b.json" in capsys.readouterr().err
    assert main([]) == 2
