"""Boards that come, change and go over months, as a fleet's server lives with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from small_fleet import DAY, ROOT, RULES, TENSORS, Clock, Server, name_of, offer

from dance_ondevice.daemon.fleet.making import DamagedOfferError, make
from dance_ondevice.daemon.fleet.shelf import ShelfError
from dance_ondevice.daemon.wire import fleet_messages as messages
from dance_ondevice.fleet.releases import decode_release

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
    server.vote("pond", candidate=99)
    server.vote("gate", candidate=99)
    server.admitted = frozenset(BOARDS)
    found = server.desk.decide()
    assert found is not None
    assert found.outcome == "wait"
    server.admitted = frozenset({*BOARDS, "pond"})
    found = server.desk.decide()
    assert found is not None
    assert found.outcome == "published"


def test_what_came_with_a_stolen_kit_stays_out_when_its_name_has_another_key(server: Server) -> None:
    """The page says to remove the key and to make another kit, which has the same name."""
    server.admitted = frozenset({*BOARDS, "pond"})
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
    server.vote("pond", candidate=99)
    assert server.sync("pond").voted
    server.other_keys["pond"] = "second"
    assert not server.sync("pond").voted
    server.vote("gate", candidate=99)
    found = server.desk.decide()
    assert found is not None
    assert found.outcome == "wait"
    server.vote("pond", candidate=99)
    found = server.desk.decide()
    assert found is not None
    assert found.outcome == "published"


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_no_version_is_published_with_what_came_with_a_stolen_kit(server: Server, how: str) -> None:
    """Not one that is being scored either; what the others learnt comes with the next."""
    server.admitted = frozenset({*BOARDS, "pond"})
    server.put("front", offer(9.0))
    for board in ("gate", "yard", "pond"):
        server.put(board, offer(0.1 + 0.01 * len(board)))
    work = server.desk.work()
    assert work is not None
    server.other_keys["front"] = "second"
    server.desk.made(make(ROOT, work, RULES))
    assert server.shelf.candidate is None, "its key was replaced while the version was made"
    server.other_keys = {}
    assert server.make()
    for board in ("gate", "yard"):
        server.vote(board, candidate=99)
    if how == "removed":
        server.admitted = frozenset({"gate", "yard", "pond"})
    else:
        server.other_keys["front"] = "second"
    found = server.desk.decide()
    assert found is not None
    assert (found.outcome, "front" in found.reason) == ("declined", True)
    for _ in range(2):
        assert set(server.desk.waiting()) == {"gate", "yard", "pond"}
        state = server.sync("gate", data=offer(0.14)).offer
        assert state is not None
        assert state.state == "waiting"
        server.restart()
    # The board with another key begins with what it has, which is asked for again.
    if how == "replaced":
        assert server.put("front", offer(0.2)).state == "waiting"
    second = server.publish("gate", "yard")
    assert server.shelf.published.number == 2
    found_values = decode_release(server.fetch(second), ROOT, second)
    assert np.abs(found_values["stem.weight"] - TENSORS["stem.weight"]).max() < 0.3


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


def test_an_offer_that_grew_too_old_while_it_waited_is_told(server: Server) -> None:
    """It came at the limit while a version was scored, which was published then."""
    lineage: list[str] = []
    for number in range(RULES.oldest_base + 1):
        for board in BOARDS:
            server.put(board, offer(0.01 * number + 0.001 * BOARDS.index(board), lineage[:1]))
        assert server.make()
        if number == RULES.oldest_base:
            assert server.put("away", offer(0.9)).state == "waiting"
        for board in ("front", "gate"):
            server.vote(board)
        server.desk.decide()
        lineage.insert(0, server.shelf.published.sha256)
    assert server.desk.waiting() == {}
    state = server.sync("away", data=offer(0.9)).offer
    assert state is not None
    assert (state.state, "take a newer one first" in state.reason) == ("refused", True)


def test_a_model_that_ran_away_keeps_no_version_from_the_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such values are finite, their sums are not: averaging failed with them again and again."""
    with monkeypatch.context() as patched:  # as an earlier release took them
        patched.setattr("dance_ondevice.fleet.offers._LARGEST", 3.4e38)
        for board, shift in (("front", 3e38), ("gate", 0.1), ("yard", 0.2)):
            assert server.put(board, offer(shift)).state == "waiting"
    with pytest.raises(DamagedOfferError) as caught:
        server.make()
    server.desk.drop(caught.value.path)
    state = server.put("front", offer(3e38))
    assert (state.state, "run away" in state.reason) == ("refused", True)
    server.put("pond", offer(0.1))
    server.publish("gate", "yard")


def test_leftovers_keep_no_version_from_being_removed(server: Server) -> None:
    """What a crash, or another program's open file, has left of the folder that was removed before."""
    left = server.folder / "versions" / ".going"
    for number in range(4):
        for board in BOARDS:
            server.put(board, offer(0.01 * number + 0.001 * BOARDS.index(board)))
        server.publish("front", "gate")
        (left / "open").mkdir(parents=True, exist_ok=True)
    server.shelf.keep_newest(1)
    assert sorted(server.shelf.versions) == [0, 4]
    server.restart()
    assert sorted(path.name for path in (server.folder / "versions").iterdir()) == ["000000", "000004"]


def test_damaged_facts_of_a_board_hold_up_nobody(server: Server) -> None:
    """What they held the versions say, and the board hands in again what waited."""
    for board in BOARDS:
        server.put(board, offer(0.1 + 0.01 * BOARDS.index(board)))
    server.publish("front", "gate")
    server.put("yard", offer(0.3))
    for board in ("front", "yard"):
        (server.folder / "boards" / board / "facts.json").write_bytes(b'{"offer": 3')
    server.restart()
    used = server.sync("front", data=offer(0.1)).offer
    again = server.sync("yard", data=offer(0.3)).offer
    assert used is not None
    assert again is not None
    assert (used.state, again.state, again.have) == ("used", "unknown", 0)
    assert server.put("yard", offer(0.3)).state == "waiting"
    facts = server.shelf.boards["yard"].used
    assert facts is not None
    assert facts.id == name_of(offer(0.12)), "its next change is counted from what was used"


def test_an_offer_of_a_version_that_was_removed_by_hand_is_asked_for_again(server: Server) -> None:
    """The number is given once more: counted from another version, an offer would say what nobody learnt."""
    for board in BOARDS:
        server.put(board, offer(0.1 + 0.01 * BOARDS.index(board)))
    first = server.publish("front", "gate")
    server.put("yard", offer(0.5, [first]))
    (server.folder / "versions" / "000001" / "facts.json").write_bytes(b"{")
    with pytest.raises(ShelfError, match="remove that folder"):
        server.restart()
    shutil.rmtree(server.folder / "versions" / "000001")
    server.restart()
    assert set(server.desk.waiting()) == {"front", "gate"}, "they were used in what is gone"
    state = server.sync("yard", data=offer(0.5, [first])).offer
    assert state is not None
    assert state.state == "unknown"
    assert server.put("yard", offer(0.5, [first])).state == "waiting"
    assert server.shelf.boards["yard"].base == 0
    server.publish("front", "gate")


def test_a_copy_that_was_made_while_a_version_appeared_loses_nothing(server: Server, tmp_path: Path) -> None:
    """Folder by folder, as copies are made: what boards had offered is newer than the versions."""
    for board in BOARDS:
        server.put(board, offer(0.1 + 0.01 * BOARDS.index(board)))
    shutil.copytree(server.folder / "versions", tmp_path / "copy" / "versions")
    first = server.publish("front", "gate")
    server.sync("front", lineage=[first], data=offer(0.1))  # what is known of it is written down
    shutil.copytree(server.folder / "boards", tmp_path / "copy" / "boards")
    shutil.rmtree(server.folder)
    shutil.copytree(tmp_path / "copy", server.folder)
    server.restart()
    assert set(server.desk.waiting()) == set(BOARDS)
    assert server.publish("front", "gate") == first


def test_a_disk_without_inodes_is_called_that(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def none(path: Path, mode: str = "r") -> IO[Any]:
        if path.suffix == ".part":
            raise OSError(28, "No space left on device")
        return real(path, mode)

    monkeypatch.setattr(Path, "open", none)
    data = offer(1.0)
    ref = messages.OfferRef(id=name_of(data), size=len(data))
    answer, _ = server.desk.answer("front", messages.Put(id=1, offer=ref, offset=0), data)
    assert isinstance(answer, messages.Refusal)
    assert answer.reason == "the server's disk: No space left on device"
