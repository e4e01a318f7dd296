"""Boards that come, change and go over months, as a fleet's server lives with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_fleet import DAY, ROOT, RULES, Clock, Server, name_of, offer

from dance_ondevice.daemon.fleet.making import DamagedOfferError, make
from dance_ondevice.daemon.wire import fleet_messages as messages

BOARDS = ("front", "gate", "yard")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "server", Clock())


def test_what_a_revoked_board_has_left_counts_no_more(server: Server) -> None:
    """A stolen kit's offer and counts are not used; where its key comes back, so does the board."""
    for board in BOARDS:
        server.put(board, offer(0.1))
    server.admitted = frozenset({"front", "gate"})
    assert not server.make(), "two offers are too few"
    assert (server.desk.presence.lately(), set(server.desk.waiting())) == (2, {"front", "gate"})
    answer, _ = server.desk.answer("front", messages.Who(id=9), b"")
    assert isinstance(answer, messages.Boards)
    assert [each.name for each in answer.boards] == ["front", "gate"]
    server.admitted = None
    assert server.make()
    server.vote("yard", candidate=99)
    server.vote("gate", candidate=99)
    server.admitted = frozenset({"front", "gate"})
    found = server.desk.decide()
    assert found is not None
    assert found.outcome == "wait"
    server.admitted = frozenset(BOARDS)
    found = server.desk.decide()
    assert found is not None
    assert found.outcome == "published"


def test_what_came_with_a_stolen_kit_stays_out_when_its_name_has_another_key(server: Server) -> None:
    """The page says to remove the key and to make another kit, which has the same name."""
    server.admitted = frozenset(BOARDS)
    server.put("front", offer(9.0))
    server.put("gate", offer(0.1))
    server.other_keys["front"] = "second"
    server.restart()
    assert set(server.desk.waiting()) == {"gate"}
    # The same offer as well comes once more, with the new key.
    for shift in (9.0, 0.2):
        assert server.put("front", offer(shift)).state == "waiting"
        assert set(server.desk.waiting()) == {"front", "gate"}
    server.put("yard", offer(0.3))
    assert server.make()
    server.vote("front", candidate=99)
    assert server.sync("front").voted
    server.other_keys["front"] = "third"
    assert not server.sync("front").voted
    server.vote("gate", candidate=99)
    found = server.desk.decide()
    assert found is not None
    assert found.outcome == "wait"
    server.vote("front", candidate=99)
    found = server.desk.decide()
    assert found is not None
    assert found.outcome == "published"


def test_what_changes_while_a_version_is_made(server: Server) -> None:
    """Making takes minutes with thousands of boards."""
    for board in BOARDS:
        server.put(board, offer(0.1 + 0.01 * BOARDS.index(board)))
    work = server.desk.work()
    assert work is not None
    assert server.put("front", offer(0.5)).state == "waiting"
    server.admitted = frozenset({"front", "gate"})
    server.desk.made(make(ROOT, work, RULES))
    assert server.shelf.candidate is None, "it has the offer of a board whose key was removed"
    server.admitted = None
    work = server.desk.work()
    assert work is not None
    # A newer offer takes the place of one that is read: that one is used, and the newer one waits.
    assert server.put("front", offer(0.6)).state == "waiting"
    server.desk.made(make(ROOT, work, RULES))
    server.vote("front")
    server.vote("gate")
    server.desk.decide()
    assert set(server.desk.waiting()) == {"front"}
    server.restart()
    assert {path.stem for path in (server.folder / "boards" / "front").glob("*.offer")} == {
        name_of(offer(0.5)),
        name_of(offer(0.6)),
    }


def test_a_board_with_another_kit_adds_nothing_twice(server: Server) -> None:
    """It has another name then, and the model that it offered under the old one; so has a copied card."""
    for board in BOARDS:
        server.put(board, offer(0.1 + 0.01 * BOARDS.index(board)))
    server.publish("front", "gate")
    state = server.sync("renamed", data=offer(0.1)).offer
    assert state is not None
    assert (state.state, state.version) == ("used", 1)
    assert server.desk.waiting() == {}
    server.restart()
    for board in ("gate", "yard", "renamed"):
        server.put(board, offer(0.3))
    work = server.desk.work()
    assert work is not None
    (source,) = [each for each in work.sources if each.used.board == "renamed"]
    assert source.counted_from is not None
    assert source.counted_from.read_bytes() == offer(0.1)
    server.publish("renamed", "gate")
    # Under a name that has handed in something before, too.
    server.sync("yard", data=offer(0.3))
    server.sync("front", data=offer(0.3))
    for _ in range(2):
        used = server.shelf.boards["front"].used
        assert used is not None
        assert used.id == name_of(offer(0.3))
        server.restart()
    # A board that is away for good leaves files, which may be removed.
    shutil.rmtree(server.folder / "boards" / "front")
    server.restart()
    for board in ("gate", "yard", "renamed"):
        server.put(board, offer(0.4))
    server.publish("gate", "yard")


def test_an_offer_that_was_used_long_ago_waits_no_more(server: Server) -> None:
    """Of versions the newest are kept; what an older one was made of is known still."""
    server.put("yard", offer(0.3))
    lineage: list[str] = []
    for number in range(RULES.oldest_base + 4):
        for board in ("front", "gate"):
            server.put(board, offer(0.01 * number + 0.001 * len(board), lineage[:1]))
        server.clock.at += RULES.longest_wait_s
        lineage.insert(0, server.publish("front", "gate"))
    assert 1 not in server.shelf.versions
    state = server.sync("yard", data=offer(0.3)).offer
    assert state is not None
    assert (state.state, server.desk.waiting()) == ("used", {})
    server.restart()
    assert server.desk.waiting() == {}


def test_a_clock_that_was_ahead_keeps_no_offer_waiting(server: Server) -> None:
    server.clock.at += 3000 * DAY
    for board in ("front", "gate"):
        server.put(board, offer(0.1))
    server.clock.at -= 3000 * DAY
    server.clock.stepped -= 3000 * DAY
    assert not server.make()
    server.clock.at += RULES.longest_wait_s + 1
    assert server.make()


def test_files_of_other_programs_keep_no_server_from_starting(server: Server) -> None:
    server.put("front", offer(0.1))
    for name in ("versions", "boards"):
        (server.folder / name / ".DS_Store").write_bytes(b"\0")
        (server.folder / name / "copied.txt").write_bytes(b"x")
        (server.folder / name / ".front.Ab12cd").mkdir()
    server.restart()
    assert set(server.shelf.boards) == {"front"}


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_damaged_offer_holds_up_one_board_alone(server: Server, how: str) -> None:
    """Averaging would fail on it again and again, and no version appear for anybody."""
    for board in BOARDS:
        server.put(board, offer(0.1))
    path = server.shelf.offer("gate", name_of(offer(0.1)))
    path.write_bytes(path.read_bytes()[:-9]) if how == "damaged" else path.unlink()
    with pytest.raises(DamagedOfferError) as caught:
        server.make()
    server.desk.drop(caught.value.path)
    server.restart()
    assert set(server.desk.waiting()) == {"front", "yard"}
    news = server.sync("gate", data=offer(0.1)).offer
    assert news is not None
    assert (news.state, news.have) == ("unknown", 0)
    assert server.put("gate", offer(0.1)).state == "waiting"
    server.publish("front", "gate")
    # The one that the next change is counted from is let go of as well.
    path = server.shelf.offer("gate", name_of(offer(0.1)))
    for board in BOARDS:
        server.put(board, offer(0.2))
    path.write_bytes(b"x")
    with pytest.raises(DamagedOfferError) as caught:
        server.make()
    server.desk.drop(caught.value.path)
    server.publish("front", "gate")
