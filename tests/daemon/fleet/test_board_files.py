"""A board's files for its fleet when they are damaged or old, and its clock when it is set."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from fleet_boards import Board
from small_fleet import DAY, FIRST, Clock, Server, name_of, offer

from dance_ondevice.daemon.control import fleet as control
from dance_ondevice.daemon.wire import fleet_messages as messages

NAMES = ("front", "gate", "yard")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "server", Clock())


@pytest.fixture
def boards(server: Server, tmp_path: Path) -> dict[str, Board]:
    return {name: Board(name, tmp_path / name, server, server.clock) for name in NAMES}


@pytest.mark.parametrize("how", ["bit", "short", "gone", "killed between its two files"])
def test_a_damaged_offer_is_made_anew_and_keeps_no_news_away(
    server: Server, boards: dict[str, Board], how: str
) -> None:
    """The server would take it in vain again and again, and the board get neither news nor versions."""
    for name in ("gate", "yard"):
        boards[name].box.offer("v0002", offer(0.1))
        boards[name].turn()
    server.clock.at += server.rules.longest_wait_s
    published = server.publish("gate", "yard")
    front = boards["front"]
    woken: list[None] = []
    front.box.on_arrival = lambda: woken.append(None)
    front.box.offer("v0002", offer(0.3))
    path = front.folder / "offer.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if how == "bit":
        path.write_bytes(data)
    elif how == "short":
        path.write_bytes(data[:-9])
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(offer(0.5))
    assert "made anew" in front.turn().trouble
    assert woken
    assert front.box.snapshot().facts.offered == "", "the rounds' thread offers what is live again"
    assert front.turn().trouble == ""
    assert front.box.release(published).exists()
    front.box.offer("v0002", offer(0.3))
    front.turn()
    assert set(server.desk.waiting()) == {"front"}


def test_a_damaged_release_is_fetched_again(server: Server, boards: dict[str, Board]) -> None:
    for board in boards.values():
        board.box.offer("v0002", offer(0.1))
        board.turn()
    published = server.publish("front", "gate")
    front = boards["front"]
    front.turn()
    assert front.box.sound(published)
    path = front.box.release(published)
    path.write_bytes(path.read_bytes()[:-4] + b"\0\1\2\3")
    assert not front.box.sound(published)
    assert not front.box.sound(published)
    assert front.turn().trouble == ""
    assert front.box.sound(published)
    assert path.read_bytes() == server.fetch(published)


def test_a_clock_that_is_set_back_hides_no_link_that_does_not_run(
    server: Server, boards: dict[str, Board]
) -> None:
    front, clock = boards["front"], server.clock
    front.turn()
    assert not front.box.asks_who
    for board in (front, boards["gate"]):
        board.turn()
        clock.at -= 3000 * DAY
        clock.stepped -= 3000 * DAY
        assert not board.box.quiet
        if board is not front:
            board.restart()
        clock.at += 3601.0
        assert board.box.quiet, board.name
        assert board.box.asks_who, "what is known of the others is of another time"
        board.turn()
        assert not board.box.quiet
        assert not board.box.asks_who


def test_what_became_of_an_offer_is_not_told_of_the_next(boards: dict[str, Board]) -> None:
    front = boards["front"]
    said = lambda: control.report(front.part, None)["offer"]  # noqa: E731
    assert said() == "nothing offered yet"
    front.box.offer("v0002", offer(0.1))
    assert said() == "on its way"
    root = messages.Release(number=0, sha256=name_of(FIRST), size=len(FIRST))
    state = messages.OfferState(id=name_of(offer(0.1)), state="used", version=3)
    news = messages.Synced(id=1, published=root, offer=state)
    front.box.news(news)
    assert said() == "used in version 3"
    front.box.offer("v0004", offer(0.2))
    assert said() == "on its way"
    front.box.news(msgspec.structs.replace(news, offer=None))
    assert said() == "on its way"
