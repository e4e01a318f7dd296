"""A real Prometheus scrapes a running daemon, and its answers are held against the daemon's own books."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_process import Camera, Daemon

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
CONFIG = """
global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
  evaluation_interval: 1s
rule_files: ["{rules}"]
scrape_configs:
  - job_name: dance-ondevice
    static_configs:
      - targets: ["{target}"]
"""


class Prometheus:
    """One server on a port of its own, with its data in a folder of its own."""

    def __init__(self, binary: str, folder: Path, target: str) -> None:
        self.log = folder / "prometheus.log"
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(target=target, rules=DEPLOY / "prometheus" / "alerts.yml"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={self.address}",
                ],
                stdout=log,
                stderr=log,
            )

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the HTTP API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an instant query."""
        found = self.get("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def wait_for(self, true: Callable[[], Any]) -> Any:
        """Ask until the answer is as wanted; fails with the log after a minute."""
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if answer := true():
                    return answer
            except urllib.error.URLError:
                pass  # it is not up yet
            assert time.monotonic() < deadline, self.log.read_text()
            # It works in another process: the only way is to look again, leaving it some time to work.
            time.sleep(0.05)

    def number(self, expression: str) -> float:
        """The one value of a query that has one."""
        ((_, value),) = self.wait_for(lambda: self.query(expression))
        return value

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    running = Daemon(tmp_path, inference=True)
    yield running
    if running.process is not None:
        running.stop(signal.SIGKILL)


@pytest.fixture
def scraping(tmp_path: Path) -> Iterator[Callable[[Daemon], Prometheus]]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    started: list[Prometheus] = []

    def start(daemon: Daemon) -> Prometheus:
        target = urllib.parse.urlsplit(daemon.facts["metrics"]).netloc
        started.append(Prometheus(binary, tmp_path, target))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_joules_in_prometheus_are_those_of_the_daemon_and_of_its_ledger(
    daemon: Daemon, scraping: Callable[[Daemon], Prometheus]
) -> None:
    daemon.start()
    prometheus = scraping(daemon)
    camera = Camera(daemon.facts["ingest"][0])
    for index in range(24):
        camera.send(index)
    camera.close()
    trained = daemon.run_cli("train-now", "--wait", "--json")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    outcome = json.loads(trained.stdout)

    before = daemon.ask("status")
    asked_at = time.time()
    total = "sum(dance_energy_joules_total)"
    prometheus.wait_for(lambda: prometheus.query(f"min(timestamp(dance_energy_joules_total)) > {asked_at}"))
    scraped = prometheus.number(total)
    after = daemon.ask("status")
    assert before["energy"]["gross_joules"] > 1
    assert before["energy"]["gross_joules"] * 0.99 <= scraped <= after["energy"]["gross_joules"] * 1.01

    # What a finished round used no longer moves: here every digit must be the same.
    assert prometheus.number("dance_round_joules") == pytest.approx(before["rounds"]["last"]["gross_joules"])
    training = prometheus.number('dance_workload_joules_total{workload="training"}')
    assert training == pytest.approx(before["energy"]["workload_joules"]["training"])
    assert training == pytest.approx(outcome["joules"], rel=0.01)
    assert prometheus.number("dance_training_budget_joules") == pytest.approx(
        after["energy"]["budget_joules"], rel=0.01
    )
    assert prometheus.number("dance_store_quota_bytes") == 2 << 30
    assert prometheus.number("dance_store_min_free_bytes") == 0
    assert prometheus.number("dance_store_free_bytes") > 0

    check_dashboard(prometheus)
    check_alerts(prometheus)

    ending = daemon.ask("status")["energy"]["gross_joules"]
    asked_at = time.time()
    prometheus.wait_for(lambda: prometheus.query(f"min(timestamp(dance_energy_joules_total)) > {asked_at}"))
    assert daemon.stop() == 0
    ledger = sqlite3.connect(daemon.state / "dance.db")
    by_workload = dict(ledger.execute("select workload, sum(joules) from energy group by workload"))
    (settled,) = ledger.execute("select settled_joules from ledger").fetchone()
    ledger.close()
    # Prometheus marks the series of a target that went away as ended; their last values are still there.
    last = {
        series["workload"]: value
        for series, value in prometheus.query("last_over_time(dance_workload_joules_total[10m])")
    }
    assert last["training"] == pytest.approx(by_workload["training"], rel=0.01)
    assert prometheus.number("last_over_time(dance_round_joules[10m])") == pytest.approx(settled, rel=0.01)
    # The stop itself takes joules that nobody can scrape any more: the last scrape lies between the two.
    scraped = prometheus.number("sum(last_over_time(dance_energy_joules_total[10m]))")
    assert ending * 0.99 <= scraped <= sum(by_workload.values()) * 1.01


#: Metrics without a series until something has happened, which in this run may be or not.
AFTER_AN_EVENT = (
    "dance_drift_alarms_total",
    "dance_learning_gain",
    "dance_learning_blocked",
    "dance_frames_ahead_total",
    "dance_connections_closed_total",
    "dance_camera_repeated_frames",
    "dance_camera_sender_changes_total",
    "dance_labels_wanted",
    "dance_fleet_",  # no board of a fleet
    "dance_condition_frames_total",
)


def check_dashboard(prometheus: Prometheus) -> None:
    """Every query of the dashboard has an answer, with the labels that its legend names."""
    panels = json.loads((DEPLOY / "grafana" / "dance-ondevice.json").read_text())["panels"]
    targets = [(panel["title"], target) for panel in panels for target in panel.get("targets", [])]
    assert targets
    for title, target in targets:
        expression = (
            target["expr"]
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*")
            .replace("$camera", ".*")
        )
        if "dance_refused_total" in expression:
            assert prometheus.query(expression) == []  # nothing was refused
            continue
        if any(name in expression for name in AFTER_AN_EVENT):
            answer = prometheus.query(expression)
        else:
            answer = prometheus.wait_for(lambda expression=expression: prometheus.query(expression))
        for series, _ in answer:
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= series.keys(), title


def check_alerts(prometheus: Prometheus) -> None:
    """Every rule evaluates without error, and a daemon that is well raises no alarm."""
    (group,) = prometheus.wait_for(
        lambda: [
            group
            for group in prometheus.get("rules")["groups"]
            if all(rule["health"] != "unknown" for rule in group["rules"])
        ]
    )
    written = (DEPLOY / "prometheus" / "alerts.yml").read_text().count("- alert:")
    assert len(group["rules"]) == written > 0
    for rule in group["rules"]:
        assert (rule["health"], rule.get("lastError")) == ("ok", None), rule
        assert rule["state"] != "firing", rule  # on a busy machine a scrape may fail, for a moment
