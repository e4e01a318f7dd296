"""What a server may say to a board: no path, no number that nothing can count, no wait without end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from fleet_boards import Board
from small_fleet import DAY, FIRST, Clock, Server, name_of

from dance_ondevice.daemon.control.client import CommandError
from dance_ondevice.daemon.wire import fleet_messages as messages


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "server", Clock())


@pytest.fixture
def front(server: Server, tmp_path: Path) -> Board:
    return Board("front", tmp_path / "front", server, server.clock)


@pytest.mark.parametrize(
    "news",
    [
        {"published": {"number": 1, "sha256": "../../outside", "size": 9}},
        {"published": {"number": 1, "sha256": "b" * 63 + "\0", "size": 9}},
        {"published": {"number": 2**70, "sha256": "b" * 64, "size": 9}},
        {
            "published": {"number": 1, "sha256": "b" * 64, "size": 9},
            "changes": [{"release": "b" * 64, "base": "a" * 64, "sha256": "../../outside", "size": 1}],
        },
    ],
)
def test_a_server_names_no_file_outside_the_boards_folder(front: Board, news: dict[str, Any]) -> None:
    """What a server says is no path, and no number that nothing here can count."""
    with pytest.raises(messages.MessageError):
        messages.decode_answer(msgspec.json.encode({"type": "synced", "id": 1, **news}))
    with pytest.raises(CommandError, match="not what the fleet's socket takes"):
        front._daemon("fleet_news", news={"id": 1, **news})
    released = news.get("changes", [news["published"]])[0]
    piece = {"number": 1, "size": 9, **{k: released[k] for k in ("number", "sha256") if k in released}}
    with pytest.raises(CommandError):
        front._daemon("fleet_release", release=piece, offset=0, data="eHh4")
    assert not list(front.folder.parent.rglob("*outside*"))


@pytest.mark.parametrize(("said", "waits"), [(0.0, 0.05), (-5.0, 0.05), (1e300, DAY)])
def test_a_board_asks_neither_all_the_time_nor_never_again(
    server: Server, front: Board, monkeypatch: pytest.MonkeyPatch, said: float, waits: float
) -> None:
    """Whatever number its server gives, of a slip or of malice; a wait of no such length can be begun."""
    root = messages.Release(number=0, sha256=name_of(FIRST), size=len(FIRST))
    news = messages.Synced(id=7, published=root, next_s=said)
    monkeypatch.setattr(server.desk, "answer", lambda *_: (news, b""))
    assert front.turn().wait_s == waits
    refusal = messages.Refusal(id=7, reason="later", retry_s=said)
    monkeypatch.setattr(server.desk, "answer", lambda *_: (refusal, b""))
    assert waits <= front.turn().wait_s <= DAY
