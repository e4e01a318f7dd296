"""``bench console``: a short run with a real daemon, console and viewers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from dance_ondevice.benchmarks.console.page import lines
from dance_ondevice.benchmarks.console.report import ConsoleReport
from dance_ondevice.benchmarks.result import as_body, read_result
from dance_ondevice.daemon.cli import main


@pytest.mark.usefixtures("uncounted")
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_page_tap_memory_and_masks_are_measured(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main,
        [
            *("bench", "console", "--turns", "1", "--seconds", "1", "--fps", "5"),
            *("--work", str(tmp_path / "work"), "--out", str(tmp_path / "out.json"), "--json"),
        ],
    )
    assert done.exit_code == 0, done.output
    report = as_body(read_result(tmp_path / "out.json"), ConsoleReport)
    assert (report.alone.viewers, report.watched.viewers) == (0, 3)
    assert report.alone.masks >= 1
    assert report.watched.masks >= 1
    assert 700_000 < report.tap_pixels <= 801_000
    assert 0 < report.resident_mb["watched"] < 60
    assert report.tap_ms["99"] > 0
    assert report.first_page_ms["50"] > 0
    page = "\n".join(lines(report))
    assert "masks' p99 with 3 viewers" in page
    assert str(tmp_path) not in json.dumps(json.loads(done.stdout)["about"])
