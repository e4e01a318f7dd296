"""A stand-in for the running daemon: its real control socket, real database and published files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlite_utils import Database

from dance_ondevice.daemon.cli import main
from dance_ondevice.daemon.config import load as config
from dance_ondevice.daemon.control import instances
from dance_ondevice.daemon.control.instances import DaemonFile, write_daemon_file
from dance_ondevice.daemon.control.server import ControlServer, Handler
from dance_ondevice.daemon.store.schema import migrate
from dance_ondevice.daemon.system.state import StatePaths

Run = Callable[..., Result]
Serve = Callable[..., None]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no daemon runs and nothing is configured."""
    monkeypatch.setattr(instances, "SYSTEM_RUNTIME_DIR", tmp_path / "no-run")
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "no-config.toml")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "xdg"))
    for name in ("DANCE_CONFIG", "DANCE_STATE_DIR", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run() -> Run:
    """Runs the command line in this process: ``run("models", "list", code=0)``."""

    def invoke(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, args)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    def invoke(*args: str, code: int = 0) -> Any:
        return json.loads(run(*args, "--json", code=code).stdout)

    return invoke


@pytest.fixture
def database(paths: StatePaths) -> Iterator[Database]:
    """The state folder's index, with its schema and no rows."""
    database = Database(paths.database)
    migrate(database)
    yield database
    database.conn.close()


@pytest.fixture
def serve(paths: StatePaths, tmp_path: Path) -> Iterator[Serve]:
    """Starts a control socket with the given handlers and publishes it in the state folder."""
    servers: list[ControlServer] = []

    def start(handlers: Mapping[str, Handler], **published: Any) -> None:
        server = ControlServer(f"ipc://{tmp_path / 'control.sock'}", handlers)
        server.start()
        servers.append(server)
        write_daemon_file(paths, DaemonFile(pid=1, control=server.endpoint, **published))

    yield start
    for server in servers:
        assert server.stop()
        assert server.failure is None
