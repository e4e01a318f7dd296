"""A configuration that asks for another model, with a daemon of its own: 78, a warning, an import."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_process import PATIENCE, Daemon, config_text

from dance_ondevice.daemon.versions import first_model
from dance_ondevice.datasets.street import STREET_CLASSES

pytestmark = pytest.mark.slow


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    running = Daemon(tmp_path)
    yield running
    running.stop(signal.SIGKILL)


def base(folder: Path, seed: int, **card: Any) -> Path:
    first_model.main(["fastscnn", "", json.dumps(STREET_CLASSES), str(seed), "64", "48", str(folder)])
    file = folder / "card.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"training": {"steps": 9}} | card))
    return folder


def configure(daemon: Daemon, **model: object) -> None:
    """Set keys of ``[model]``, and those alone."""
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in model.items())
    text = config_text()
    if "weights" in model:
        text = text.replace('weights = "untrained"\n', "")
    daemon.config.write_text(text.replace("[model]\n", f"[model]\n{lines}"))


def test_a_base_model_that_cannot_run_is_not_adopted(daemon: Daemon, tmp_path: Path) -> None:
    # A base model that cannot run ends the start with 78 and one line, and nothing is adopted.
    configure(daemon, weights=str(base(tmp_path / "huge", 1, macs_at=[2147483648, 2147483648])))
    assert daemon.launch().running.wait(PATIENCE) == 78
    assert "model.weights" in daemon.log.read_text().splitlines()[-1]
    assert not list((daemon.state / "models").iterdir())
    # Mending the configuration mends the service.
    first = base(tmp_path / "first", 2)
    configure(daemon, weights=str(first))
    status = daemon.start().ask("status")
    assert (status["version"], status["untrained"]) == ("v0001", False)


def test_a_model_comes_into_a_state_folder_that_has_one(daemon: Daemon, tmp_path: Path) -> None:
    configure(daemon, weights=str(base(tmp_path / "first", 2)))
    daemon.start()
    # Another one is not promised for the next start, which would not take it.
    better = base(tmp_path / "better", 3)
    configure(daemon, weights=str(better))
    told = daemon.run_cli("config", "reload").stdout
    assert "needs a restart" not in told
    assert f"dance-ondevice models import {better}" in told
    assert daemon.stop() == 0
    status = daemon.start().ask("status")
    assert status["version"] == "v0001"
    assert [each for each in status["warnings"] if f"models import {better}" in each]
    assert f"models import {better}" in daemon.log.read_text()
    doctor = daemon.run_cli("doctor", "--config", str(daemon.config)).stdout
    assert f"models import {better}" in doctor
    # Nothing is labelled, so nothing says that it is better: kept, and live by hand.
    found = daemon.run_cli("models", "import", str(better))
    assert found.returncode == 1
    assert "no held-out samples" in found.stderr
    assert daemon.run_cli("models", "promote", "v0002/").returncode == 1
    assert daemon.run_cli("models", "promote", "v0002").stdout.startswith("live: v0002 (before it v0001")
    listed = json.loads(daemon.run_cli("models", "list", "--json").stdout)
    assert {row["version"]: row["status"] for row in listed} == {"v0001": "retired", "v0002": "live"}
    assert not [each for each in daemon.ask("status")["warnings"] if "models import" in each]


def test_classes_are_appended_and_never_changed(daemon: Daemon, tmp_path: Path) -> None:
    configure(daemon, weights=str(base(tmp_path / "first", 2)))
    daemon.start()
    # Classes of another order are refused, and what the message names first works.
    assert daemon.stop() == 0
    swapped = [STREET_CLASSES[1], STREET_CLASSES[0], *STREET_CLASSES[2:]]
    configure(daemon, classes=swapped)
    assert daemon.launch().running.wait(PATIENCE) == 78
    # One is appended: the model and its masks stay.
    appended = daemon.run_cli("classes", "append", "tram")
    assert appended.returncode == 0, appended.stderr
    configure(daemon, classes=[*STREET_CLASSES, "tram"])
    assert daemon.start().ask("status")["version"] == "v0002"
