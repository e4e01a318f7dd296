"""Prometheus' own judgement of what is shipped for it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from deployed import ALERTS, DEPLOY, alerts, targets, without_variables

FOLDER = DEPLOY / "prometheus"
GUIDE = DEPLOY.parent / "docs" / "guides" / "prometheus.md"
#: What happens within hours, and within days: the latter is evaluated more seldom.
CASES = (FOLDER / "alerts_test.yml", FOLDER / "alerts_days_test.yml")


def promtool(*arguments: str | Path) -> None:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_valid_and_finds_its_rules() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")


def test_what_the_guide_adds_to_a_configuration_is_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    shutil.copy(ALERTS, tmp_path)
    (tmp_path / "prometheus.yml").write_text("".join(blocks))
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", ALERTS)


@pytest.mark.slow
def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", *CASES)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    text = "".join(file.read_text() for file in CASES)
    cases = re.findall(r"- alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:( \[\])?", text)
    fired = {name for name, nothing in cases if not nothing}
    silent = {name for name, nothing in cases if nothing}
    assert alerts()
    assert fired == set(alerts())
    # Beside the alert itself, the same case holds what resembles it.
    assert silent >= set(alerts()) - {"DanceEnergyUnmeasured"}


def test_the_queries_of_the_dashboard_parse(tmp_path: Path) -> None:
    rules = ["groups:", "  - name: dashboard", "    rules:"]
    for number, (_, target) in enumerate(targets()):
        quoted = without_variables(target["expr"]).replace("'", "''")
        rules += [f"      - record: query:{number}", f"        expr: '{quoted}'"]
    assert len(rules) > 3
    file = tmp_path / "queries.yml"
    file.write_text("\n".join(rules))
    promtool("check", "rules", file)


def test_each_alert_has_its_row_on_the_page_of_warnings() -> None:
    page = (DEPLOY.parent / "docs" / "troubleshooting.md").read_text()
    assert not [name for name in alerts() if f"`{name}`" not in page]
