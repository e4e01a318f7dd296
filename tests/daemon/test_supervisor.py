"""The order in which the daemon's parts start, seen from outside."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dance_ondevice.daemon.config.load import load
from dance_ondevice.daemon.control import client
from dance_ondevice.daemon.control.running import Core, Running
from dance_ondevice.daemon.control.server import ControlServer
from dance_ondevice.daemon.inference import estimation
from dance_ondevice.daemon.inference.service import Predictor
from dance_ondevice.daemon.ingest.mailbox import LatestFrames
from dance_ondevice.daemon.supervisor import Supervisor
from dance_ondevice.daemon.versions import first_model
from dance_ondevice.daemon.versions.versions import Versions

CONFIG = """
[daemon]
state_dir = "{state}"
[ingest]
bind = ["ipc://{state}/ingest"]
[inference]
enabled = false
[metrics]
enabled = false
[energy]
meter = "modelled"
[training]
interval = "{interval}"
"""


def test_a_reload_reaches_all_parts_from_the_first_moment_that_the_daemon_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, state = tmp_path / "site.toml", tmp_path / "state"
    file.write_text(CONFIG.format(state=state, interval="1h"))
    answers: list[Any] = []
    start = ControlServer.start
    estimations: list[estimation.Estimation] = []

    def without_thread(_: Supervisor, core: Core) -> tuple[None, Predictor]:
        estimations.append(estimation.Estimation(tmp_path, core.energy.cpu))
        return None, Predictor(
            mailbox=LatestFrames(),
            masks=None,
            instruments=core.instruments,
            threads=1,
            estimation=estimations[0],
        )

    def start_and_ask(server: ControlServer, timeout: float = 60.0) -> None:
        start(server, timeout)
        file.write_text(CONFIG.format(state=state, interval="2h") + 'priority = "normal"')
        answers.append(client.request(server.endpoint, "reload"))
        answers.append(client.request(server.endpoint, "status"))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ControlServer, "start", start_and_ask)
    monkeypatch.setattr(Supervisor, "_start_inference", without_thread)
    environ = {"RUNTIME_DIRECTORY": str(tmp_path)}
    assert Supervisor(load(file), environ=environ).run() == 0
    assert "training.interval" in str(answers[0])
    assert answers[1]["ready"]
    assert estimations[0].priority == "normal"


def test_samples_on_a_disk_that_is_not_mounted_are_named(tmp_path: Path) -> None:
    file, state = tmp_path / "site.toml", tmp_path / "state"
    file.write_text(CONFIG.format(state=state, interval="1h"))
    state.mkdir()
    (state / "samples").symlink_to(tmp_path / "ssd" / "samples")
    with pytest.raises(OSError, match=r"state/samples is no folder.*mount that disk"):
        Supervisor(load(file), environ={"RUNTIME_DIRECTORY": str(tmp_path)}).run()


def test_a_new_light_is_estimated_at_the_priority_of_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reached(Exception): ...  # noqa: N818

    def reached(*_: object, priority: str, **__: object) -> None:
        raise Reached(priority)

    monkeypatch.setattr(estimation.Estimation, "__init__", reached)
    # No process has to write a model that nothing comes to use.
    monkeypatch.setattr(first_model, "come_up", lambda *_, **__: None)
    monkeypatch.setattr(first_model, "ensure", lambda *_: SimpleNamespace(version="v0001"))
    monkeypatch.setattr(Versions, "card", lambda *_: {})
    file, state = tmp_path / "site.toml", tmp_path / "state"
    text = CONFIG.format(state=state, interval="1h").replace("enabled = false", "enabled = true", 1)
    file.write_text(text + 'priority = "normal"\n')
    with pytest.raises(Reached, match="normal"):
        Supervisor(load(file), environ={"RUNTIME_DIRECTORY": str(tmp_path)}).run()


@pytest.mark.parametrize("kind", [Core, Running])
def test_the_parts_of_a_daemon_cannot_be_exchanged(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(kind))
