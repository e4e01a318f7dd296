"""Kits of a fleet: what is made, with which modes, and what is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from small_fleet import ROOT

from dance_ondevice.daemon.security import kit
from dance_ondevice.models.card import CARD_FILE, TENSORS_FILE


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (TENSORS_FILE, CARD_FILE):
        (folder / name).write_bytes(b"x")
    return folder


def made(folder: Path, model: Path, *boards: str) -> kit.Written:
    return kit.write(folder, boards, root=ROOT, model=model, bind="tcp://*:1", endpoint="tcp://server:1")


def test_each_board_gets_what_it_needs_and_no_more(tmp_path: Path, model: Path) -> None:
    found = made(tmp_path / "fleet", model, "front", "yard")
    assert set(found.boards) == {"front", "yard"}
    for secret in (tmp_path / "fleet").rglob("*.key_secret"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    board = kit.open_board(found.boards["front"], {})
    server = kit.open_server(found.server, {})
    assert board.settings == kit.BoardSettings(board="front", endpoint="tcp://server:1", root=ROOT.sha256)
    assert board.curve.server_key == server.curve.pair.public
    assert server.curve.clients.known[board.curve.pair.public.decode()] == "front"
    assert kit.open_board_root(found.boards["yard"]) == server.root == ROOT
    # No secret of a board stays on the server.
    assert [path.name for path in found.server.rglob("*.key_secret")] == ["server.key_secret"]


def test_more_boards_come_later_and_nothing_is_overwritten(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "fleet"
    with pytest.raises(kit.KitError, match="there is no fleet in"):
        kit.write(folder, ["front"], root=None, model=None, bind="", endpoint="")
    made(folder, model, "front")
    key = (folder / "server" / "server.key").read_bytes()
    more = kit.write(folder, ["yard"], root=None, model=None, bind="", endpoint="")
    assert set(more.boards) == {"yard"}
    assert (folder / "server" / "server.key").read_bytes() == key
    assert kit.open_board(more.boards["yard"], {}).settings.endpoint == "tcp://server:1"
    with pytest.raises(kit.KitError, match="a board of this fleet already"):
        kit.write(folder, ["yard"], root=None, model=None, bind="", endpoint="")
    with pytest.raises(kit.KitError, match="no client name"):
        kit.write(folder, ["../out"], root=None, model=None, bind="", endpoint="")


def test_a_kit_that_cannot_be_used_is_named(tmp_path: Path, model: Path) -> None:
    found = made(tmp_path / "fleet", model, "front")
    board = found.boards["front"]
    (board / kit.BOARD_SECRET).chmod(0o644)
    with pytest.raises(kit.KitError, match="others may read it"):
        kit.open_board(board, {})
    (board / "root.json").write_text("{}")
    with pytest.raises(kit.KitError, match=r"root\.json"):
        kit.open_board_root(board)
    with pytest.raises(kit.KitError, match="boards/NAME"):
        kit.open_board(tmp_path / "elsewhere", {})
    for written, why in (
        ('{"bind": 3}', r"kit\.json"),
        ('{"bind": "tcp://*:1", "endpoint": "", "sync_seconds": 0}', "sync_seconds"),
        ('{"bind": "tcp://*:1", "endpoint": "", "most_requests": 0}', "most_requests"),
        ('{"bind": "tcp://*:1", "endpoint": "", "sync_second": 60}', "sync_second`"),
        (
            '{"bind": "tcp://*:1", "endpoint": "", "rules": {"least_offer": 2}}',
            "there is no rule 'least_offer'",
        ),
        ('{"bind": "tcp://*:1", "endpoint": "", "rules": {"least_share": 10}}', "least_share is 10"),
    ):
        (found.server / "kit.json").write_text(written)
        with pytest.raises(kit.KitError, match=why):
            kit.open_server(found.server, {})


def test_systemd_hands_over_the_secret(tmp_path: Path, model: Path) -> None:
    board = made(tmp_path / "fleet", model, "front").boards["front"]
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (board / kit.BOARD_SECRET).rename(credentials / kit.BOARD_SECRET)
    found = kit.open_board(board, {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert found.settings.board == "front"
