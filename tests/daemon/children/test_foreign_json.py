"""What a child process, another daemon or a damaged disk writes ends nothing but the reading of it."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path

import pytest
import zmq

from dance_ondevice.daemon.children import counts
from dance_ondevice.daemon.children import jobs as job
from dance_ondevice.daemon.children.process import Exit, Tick, TrainerProcess
from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.control import client, instances
from dance_ondevice.daemon.control.client import ClientError
from dance_ondevice.daemon.control.server import ControlServer
from dance_ondevice.daemon.inference.cameras import Conditions
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions.versions import VersionError, Versions
from dance_ondevice.policies.stream.conditions import FIGURES
from dance_ondevice.training.state import StateError, read_state

DEEP = b"[" * 100_000
NOT_UTF8 = b'{"pid": 1, "control": "\xff", "type": "\xff"}'
FOREIGN = pytest.mark.parametrize("data", [DEEP, NOT_UTF8], ids=["deep", "not UTF-8"])

CHILD = """
import sys
for line in (b'{"type": "\\xff"}', b"[" * 100_000, b'{"type": "stopped", "step": 3}'):
    sys.stdout.buffer.write(line + b"\\n")
"""


def test_a_child_that_writes_nonsense_is_still_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "child_of_test.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = TrainerProcess(
        tmp_path / "job.json", tmp_path / "log", program="child_of_test", tick_seconds=10
    )
    process.start()
    # Ticks are seconds apart: so many mean that nobody reads.
    events = [event for event in itertools.islice(process.events(), 5) if not isinstance(event, Tick)]
    assert events[0] == job.Stopped(3)
    assert isinstance(events[-1], Exit)
    assert "lines=2" in caplog.text


@FOREIGN
def test_counts_that_cannot_be_read_are_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "counts.json").write_bytes(data)
    assert counts.read_counts(tmp_path / "counts.json") == ()


@FOREIGN
def test_registrations_that_cannot_be_read_are_skipped(tmp_path: Path, data: bytes) -> None:
    # Neither those of daemons that run beside the tests.
    environ = {"RUNTIME_DIRECTORY": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "user")}
    (tmp_path / "1.json").write_bytes(data)
    path = instances.register(tmp_path / "state", "ipc:///c", environ)
    assert [f"{each.pid}.json" for each in instances.running(environ)] == [path.name]
    (tmp_path / "daemon.json").write_bytes(data)
    assert instances.read_daemon_file(StatePaths(tmp_path)) is None


@FOREIGN
def test_a_saved_training_that_cannot_be_read_is_reported_as_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "state.json").write_bytes(data)
    with pytest.raises(StateError, match="damaged"):
        read_state(tmp_path)


@FOREIGN
def test_a_live_pointer_that_cannot_be_read_is_named(tmp_path: Path, data: bytes) -> None:
    paths = StatePaths(tmp_path)
    paths.models.mkdir()
    paths.live_file.write_bytes(data)
    with pytest.raises(VersionError, match=r"live\.json is not readable"):
        Versions(paths, Store(paths, quota_bytes=1 << 30, min_free_bytes=0), now=lambda: 0.0)


@FOREIGN
def test_an_answer_that_cannot_be_read_is_an_error_of_the_client(tmp_path: Path, data: bytes) -> None:
    endpoint = f"ipc://{tmp_path}/control.sock"
    with zmq.Context() as context, context.socket(zmq.REP) as server:
        server.linger = 0
        server.bind(endpoint)

        def answer() -> None:
            server.recv()
            server.send(data)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ClientError, match="cannot be read"):
            client.request(endpoint, "status")
        thread.join()


@FOREIGN
def test_a_request_that_cannot_be_read_is_refused(tmp_path: Path, data: bytes) -> None:
    endpoint = f"ipc://{tmp_path}/control.sock"
    server = ControlServer(endpoint, {"echo": lambda query: query})
    server.start()
    try:
        with zmq.Context() as context, context.socket(zmq.REQ) as channel:
            channel.linger = 0
            channel.rcvtimeo = 5000
            channel.connect(endpoint)
            channel.send(data)
            assert "not JSON" in json.loads(channel.recv())["error"]
            channel.send(b'{"cmd": "echo"}')
            assert json.loads(channel.recv())["ok"]
    finally:
        server.stop()


WHOLE: dict[str, object] = {"frames": 9, "mean": [0.5] * len(FIGURES), "squares": [1.0] * len(FIGURES)}


@pytest.mark.parametrize(
    "wrong",
    [{"mean": [0.5]}, {"squares": [1.0]}, {"squares": [-1.0] * len(FIGURES)}, {"frames": -1}],
    ids=str,
)
def test_conditions_that_the_policy_could_not_use_are_not_restored(wrong: dict[str, object]) -> None:
    kept = Conditions(
        sections.Conditions(), now=lambda: 0.0, on_alarm=lambda *_: None, on_switch=lambda: None
    )
    state = {"conditions": [{"name": "base", **WHOLE, **wrong}], "cameras": {}}
    with pytest.raises(ValueError, match="do not fit"):
        kept.restore(json.dumps(state).encode())
    kept.restore(json.dumps({"conditions": [{"name": "base", **WHOLE}], "cameras": {}}).encode())
    assert kept.known() == ("base",)
