"""``fleet init`` from the command line: kits by number and by name, and what is wrong use."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dance_ondevice import files
from dance_ondevice.daemon.cli import main
from dance_ondevice.daemon.commands.fleet import processes
from dance_ondevice.daemon.config.load import ConfigError
from dance_ondevice.daemon.control.client import NotRunning
from dance_ondevice.daemon.control.fleet import SOCKET_VARIABLE
from dance_ondevice.daemon.security import kit
from dance_ondevice.daemon.security.kit import open_board, open_server
from dance_ondevice.daemon.system.state import StatePaths


def init(folder: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["fleet", "init", str(folder), *options])
    return done.exit_code, done.output


def test_makes_kits_by_number_and_adds_more(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    status, said = init(folder, "--boards", "2", "--endpoint", "tcp://server.example:7000", "--json")
    assert status == 0, said
    assert set(json.loads(said)["boards"]) == {"board1", "board2"}
    assert open_server(folder / "server", {}).settings.bind == "tcp://0.0.0.0:7000"
    assert open_board(folder / "boards" / "board2", {}).settings.endpoint == "tcp://server.example:7000"
    status, said = init(folder, "--boards", "1")
    assert (status, "board3" in said) == (0, True), said
    status, said = init(folder, "--boards", "yard, gate")
    assert (status, "yard" in said, "gate" in said) == (0, True, True), said
    status, said = init(folder, "--boards", "yard")
    assert (status, "a board of this fleet already" in said) == (1, True), said
    # Kits go to their boards; a later call takes no name that the server admits, nor tells to remove its key.
    shutil.rmtree(folder / "boards")
    status, said = init(folder, "--boards", "2")
    assert (status, "board4" in said, "board5" in said) == (0, True, True), said
    # One that is there and not admitted any more was revoked, and stays what it is.
    (folder / "server" / "clients" / "board4.key").unlink()
    status, said = init(folder, "--boards", "board4")
    assert (status, "move it away" in said) == (1, True), said
    # What would change nothing is not taken in silence.
    status, said = init(folder, "--boards", "1", "--endpoint", "tcp://moved.example:7000")
    assert (status, "kit.json" in said) == (2, True), said
    assert init(folder, "--boards", "1", "--model", str(tmp_path))[0] == 2
    assert init(tmp_path / "six", "--boards", "1", "--endpoint", "tcp://[2001:db8::1]:7000")[0] == 0
    assert open_server(tmp_path / "six" / "server", {}).settings.bind == "tcp://[::]:7000"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--boards", "1", "--endpoint", "server:7000"), "is not tcp://HOST:PORT"),
        (("--boards", "a/b"), "no client name"),
        (("--boards", "0"), "names no board"),
        (("--boards", "yard,"), "names no board"),
    ],
)
def test_wrong_use_is_told(tmp_path: Path, options: tuple[str, ...], why: str) -> None:
    status, said = init(tmp_path / "fleet", *options)
    assert status != 0
    assert why in said


@pytest.mark.parametrize("grown", [False, True])
def test_a_disk_that_fills_leaves_no_key_without_its_kit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grown: bool
) -> None:
    """Such a key would admit a board that nobody has, and keep its name from being made again."""
    folder = tmp_path / "fleet"
    if grown:
        assert init(folder, "--boards", "old")[0] == 0
    written = sorted(folder.rglob("*.key*"))

    def full(path: Path, data: bytes) -> None:
        if path.parent.name == "gate":
            raise OSError(28, "No space left on device")
        files.write_durably(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(kit, "write_durably", full)
        status, said = init(folder, "--boards", "yard,gate")
        assert (status, "No space left" in said) == (1, True), said
    assert sorted(folder.rglob("*.key*")) == written
    assert init(folder, "--boards", "yard,gate")[0] == 0
    assert {"gate", "yard"} <= set(open_server(folder / "server", {}).curve.clients.scan().values())


def test_what_a_board_reads_of_its_kit_is_readable_whoever_made_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert init(tmp_path / "fleet", "--boards", "1")[0] == 0
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "fleet" / "boards" / "board1").iterdir()}
    assert modes.pop("board.key_secret") == 0o600
    assert set(modes.values()) == {0o644}


def test_serve_and_join_say_what_is_missing(tmp_path: Path) -> None:
    runner = CliRunner()
    assert init(tmp_path / "fleet", "--boards", "1")[0] == 0
    # Each other's kit.
    done = runner.invoke(main, ["fleet", "serve", "--kit", str(tmp_path / "fleet" / "boards" / "board1")])
    assert (done.exit_code, "is no server's kit" in done.output) == (1, True), done.output
    done = runner.invoke(main, ["fleet", "join", "--kit", str(tmp_path / "fleet" / "server"), "--once"])
    assert (done.exit_code, "is a server's kit" in done.output) == (1, True), done.output
    done = runner.invoke(main, ["fleet", "serve", "--kit", str(tmp_path)])
    assert done.exit_code == 1
    assert "is no server's kit" in done.output
    done = runner.invoke(main, ["fleet", "join", "--kit", str(tmp_path / "none"), "--once"])
    assert done.exit_code == 1
    assert "boards/NAME" in done.output


def test_a_link_lives_through_an_edit_of_the_configuration(tmp_path: Path) -> None:
    """It would end with the status after which systemd does not start it again, and the board fall silent."""
    config = tmp_path / "board.toml"
    config.write_text(f'[daemon]\nstate_dir = "{tmp_path}"\n')
    socket = processes._fleet_socket(config, None)
    config.write_text("[daemon]\nnonsense = 1\n")
    with pytest.raises(NotRunning, match="it does not run on"):
        socket()
    # What is wrong from the start is told as anywhere.
    with pytest.raises(ConfigError, match="nonsense"):
        processes._fleet_socket(config, None)


def test_a_link_says_whose_socket_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SOCKET_VARIABLE, str(tmp_path / "fleet.sock"))
    with pytest.raises(NotRunning, match=r"fleet\.kit is not set"):
        processes._fleet_socket(None, None)()


def test_a_board_that_has_offered_nothing_says_what_that_waits_for(run, serve, paths: StatePaths) -> None:
    found: dict[str, Any] = {"root": "abc", "version": 0, "published": 0, "candidate": None, "offered": None}
    found |= {"heard_at": None, "sent_bytes": 0, "received_bytes": 0, "trouble": None, "set_back": False}
    found["quiet"] = False
    rounds: dict[str, str | None] = {"probation": "v0002 is on probation: 0 of 8 new samples"}
    serve({"status": lambda _: {"fleet": {**found, "judged": []}, "rounds": rounds}})
    status = ("fleet", "status", "--state-dir", str(paths.root))
    assert "nothing yet: v0002 is on probation: 0 of 8 new samples" in run(*status).stdout
    rounds["probation"] = None
    found |= {"heard_at": 1e9, "quiet": True}
    assert "fleet join" in run(*status).stdout
    assert "nothing yet: that begins with the first round" in run(*status).stdout
