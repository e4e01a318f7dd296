from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from dance_ondevice.benchmarks.result import (
    About,
    ResultError,
    as_body,
    command_line,
    machine_class,
    read_result,
    write_result,
)

ABOUT = About(
    benchmark="b",
    command="dance-ondevice bench b",
    data="d",
    machine="m",
    date="2026-01-02",
    seed=3,
    version="1",
)


@dataclass(frozen=True)
class Body:
    speed: float
    names: tuple[str, ...]


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_result(tmp_path / "r.json", ABOUT, Body(0.25, ("a", "b")))
    found = read_result(tmp_path / "r.json")
    assert found.about == ABOUT
    assert as_body(found, Body) == Body(0.25, ("a", "b"))
    assert list(json.loads((tmp_path / "r.json").read_bytes())) == ["about", "speed", "names"]
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no", r"r\.json is no benchmark result"),
        ("[]", r"r\.json is no benchmark result"),
        ("{}", r"it has no key 'about'"),
        ('{"about": {"benchmark": "b"}}', r"missing required field"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ResultError, match=told):
        read_result(tmp_path / "r.json")


def test_a_body_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_result(tmp_path / "r.json", ABOUT, {"speed": "fast", "names": []})
    with pytest.raises(ResultError, match=r"bench b: .*speed"):
        as_body(read_result(tmp_path / "r.json"), Body)


@pytest.mark.parametrize(
    ("cpuinfo", "end"),
    [
        ("processor\t: 0\nmodel name\t: Intel(R) N100\nprocessor\t: 1\nmodel name\t: x\n", ", Intel(R) N100"),
        ("processor\t: 0\nRevision\t: c03\nModel\t\t: Raspberry Pi 4 Model B\n", ", Raspberry Pi 4 Model B"),
        ("model\t: 143\n", "cores"),
        (None, "cores"),
    ],
)
def test_a_machine_is_told_by_its_processor(tmp_path: Path, cpuinfo: str | None, end: str) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert machine_class(tmp_path).endswith(end)
    assert machine_class(tmp_path).count("cores") == 1


def test_a_command_line_leaves_out_what_is_not_given() -> None:
    options = {"--a": 0, "--b": "", "--c": None, "--d": False, "--e": True, "--f": "''"}
    assert command_line("bench b", options) == "dance-ondevice bench b --a 0 --e --f ''"
