"""The container's files agree with the tree and with each other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from deployed import DEPLOY

from dance_ondevice.daemon.config.load import load

FOLDER = DEPLOY / "container"
ROOT = DEPLOY.parent


def test_the_configuration_is_valid_and_reaches_beyond_the_container() -> None:
    config = load(FOLDER / "config.toml").config
    ports = re.findall(r'"127\.0\.0\.1:(\d+):(\d+)"', (FOLDER / "compose.yml").read_text())
    assert [config.ingest.bind[0], config.inference.publish] == [
        f"tcp://0.0.0.0:{there}" for _, there in ports[:2]
    ]
    target = re.search(r'"daemon:(\d+)"', (FOLDER / "prometheus.yml").read_text())
    assert target
    assert config.metrics.listen == f"0.0.0.0:{target[1]}"


def test_what_is_copied_and_mounted_is_there() -> None:
    for sources in re.findall(r"^COPY (.+) \S+$", (FOLDER / "Containerfile").read_text(), re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    allowed = {
        line[1:]
        for line in (FOLDER / "Containerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert all((ROOT / name).exists() for name in allowed)
    mounts = re.findall(r"^      - (\.\S*?):/", (FOLDER / "compose.yml").read_text(), re.MULTILINE)
    assert len(mounts) == 6
    for mount in mounts:
        assert (FOLDER / mount).is_file(), mount


def test_no_port_is_published_beyond_loopback() -> None:
    text = (FOLDER / "compose.yml").read_text()
    published = re.findall(r'^      - "(\S+:\d+)"$', text, re.MULTILINE)
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def run(program: str, *arguments: str | Path) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_nothing() -> None:
    run("hadolint", FOLDER / "Containerfile")


def test_the_scrape_configuration_is_valid(tmp_path: Path) -> None:
    for file in (FOLDER / "prometheus.yml", DEPLOY / "prometheus" / "alerts.yml"):
        shutil.copy(file, tmp_path)
    run("promtool", "check", "config", tmp_path / "prometheus.yml")
