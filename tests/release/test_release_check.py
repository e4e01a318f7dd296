"""What the release check concludes, without a build: its steps themselves are ``make release-check``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import release_check as check

import dance_ondevice


def test_the_version_stands_in_one_place_and_heads_the_changelog() -> None:
    root = check.ROOT
    assert (
        check.version_of((root / "dance_ondevice" / "__init__.py").read_text()) == dance_ondevice.__version__
    )
    first = next(line for line in (root / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert first.split()[1] == dance_ondevice.__version__


@pytest.mark.parametrize("head", ["## 1.0.1 - 2026-01-01", "## 1.0.0 - unreleased", "## 1.0.0"])
def test_a_changelog_of_another_version_or_without_a_date_fails(head: str) -> None:
    assert check.check_changelog("1.0.0", "# Changelog\n\n## 1.0.0 - 2026-01-01\n") == "1.0.0 - 2026-01-01"
    with pytest.raises(check.FailedError, match=r"begins with"):
        check.check_changelog("1.0.0", f"# Changelog\n\n{head}\n")


def test_an_audit_that_found_nothing_to_look_up_is_not_done() -> None:
    known = {"name": "a", "version": "1", "vulns": []}
    assert "no known vulnerability" in check.read_audit({"dependencies": [known]})
    with pytest.raises(check.NotDoneError, match="1 of 2 packages"):
        check.read_audit({"dependencies": [known, {"name": "b", "skip_reason": "not found"}]})
    with pytest.raises(check.FailedError, match="a 1: PYSEC-1"):
        check.read_audit({"dependencies": [{**known, "vulns": [{"id": "PYSEC-1"}]}]})


def test_a_python_that_is_named_is_tried_even_if_it_is_not_there() -> None:
    assert check.pythons(["no-such-python"]) == ["no-such-python"]


def test_a_failed_step_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> str:
        return check.run(sys.executable, "-c", "import sys; print('words'); sys.exit(3)")

    assert check.step("try", work).outcome == "FAILED"
    assert "ended with 3: words" in capsys.readouterr().out
