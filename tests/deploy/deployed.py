"""The files under deploy/, and the queries in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dance-ondevice.json"


def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    """(panel title, target) of every query of the dashboard."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target


def without_variables(expression: str) -> str:
    """A dashboard's query as Grafana would send it for all boards."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$camera", ".*")


def alerts() -> dict[str, str]:
    """Alert name -> expression; reads just the YAML that alerts.yml is written in."""
    found: dict[str, str] = {}
    name, block = "", None
    for line in ALERTS.read_text().splitlines():
        if block is not None and line.startswith(" " * 10):
            block.append(line.strip())
            continue
        if block is not None:
            found[name], block = " ".join(block), None
        if alert := re.fullmatch(r"      - alert: (\w+)", line):
            name = alert[1]
        elif expression := re.fullmatch(r"        expr: (.*)", line):
            if expression[1] == "|":
                block = []
            else:
                found[name] = expression[1]
    return found
