"""Files between boards and server: kills at any call, days away, full disks, a replaced board."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import fleet_boards
import msgspec
import numpy as np
import pytest
import safetensors.numpy
from fleet_boards import Board, KilledError
from small_fleet import DAY, FIRST, ROOT, RULES, TENSORS, Clock, Server, name_of, offer, tally, write_root

from dance_ondevice.daemon.fleet.relay import Relay
from dance_ondevice.daemon.rounds.fleet.box import Ballot, Judged, offer_words
from dance_ondevice.daemon.rounds.fleet.joining import own_release
from dance_ondevice.daemon.rounds.fleet.releases import BoxError
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.wire import fleet_messages as messages
from dance_ondevice.models.card import CARD_FILE, TENSORS_FILE, encode_card, read_card

NAMES = ("front", "gate", "yard")
#: Kills of boards and server; `make faults` asks for more.
KILLS = int(os.environ.get("DANCE_FLEET_KILLS", "40"))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "server", Clock())


@pytest.fixture
def boards(server: Server, tmp_path: Path) -> dict[str, Board]:
    return {name: Board(name, tmp_path / name, server, server.clock) for name in NAMES}


def vote(board: Board, candidate: int = 90) -> bool:
    """Score what the server asks for, as the daemon's rounds do; returns whether there was anything."""
    news = board.box.snapshot().facts.news
    if (
        news is None
        or news.candidate is None
        or news.voted
        or not board.box.release(news.candidate.sha256).exists()
    ):
        return False
    board.box.scored(
        Ballot(
            sha256=news.candidate.sha256,
            candidate=tally(candidate),
            against=news.published.sha256,
            published=tally(50),
        )
    )
    return True


def test_a_version_comes_back(server: Server, boards: dict[str, Board]) -> None:
    for index, board in enumerate(boards.values()):
        board.box.offer("v0002", offer(0.1 * index))
        turn = board.turn()
        assert turn.trouble == ""
        assert turn.wait_s == pytest.approx(60.0, rel=0.11)
    assert server.make()
    for board in boards.values():
        board.turn()
        assert vote(board)
        board.turn()
        assert board.box.snapshot().facts.ballot is None
    assert server.desk.decide() is not None
    for board in boards.values():
        board.turn()
        news = board.box.snapshot().facts.news
        assert news is not None
        assert news.published.number == 1
        assert board.box.release(news.published.sha256).exists()
        assert offer_words(news.offer).startswith("used in version 1")
        board.take(news.published.sha256)
        board.restart()  # what is known survives
        assert not board.box.quiet
        assert board.box.snapshot().facts.news == news
        # Neither side keeps what nobody needs any more.
        assert len(list((board.folder / "releases").iterdir())) == 1


def test_kills_lose_and_double_nothing(server: Server, boards: dict[str, Board]) -> None:
    """Each board offers its next update once the last one is used; every kill is at another call."""
    dice = random.Random(3)
    kills = 0
    updates: dict[str, list[bytes]] = {name: [] for name in NAMES}
    for board in boards.values():
        board.kills = lambda: dice.random() < 0.08
    while kills < KILLS:
        board = boards[dice.choice(NAMES)]
        made = updates[board.name]
        news = board.box.snapshot().facts.news
        done = news is not None and news.offer is not None and news.offer.state in ("used", "declined")
        if not made or (
            done and news is not None and news.offer is not None and news.offer.id == name_of(made[-1])
        ):
            shift = 0.01 * len(made) + 0.001 * NAMES.index(board.name)
            if dice.random() < 0.5:
                made.append(board.offers(f"v{len(made):04}", shift))
            else:
                made.append(offer(shift, board.lineage))
                board.box.offer(f"v{len(made):04}", made[-1])
        try:
            board.turn()
            if news is not None and board.lineage[:1] != [news.published.sha256] and news.published.number:
                board.take(news.published.sha256)
            vote(board)
        except KilledError:
            kills += 1
            if dice.random() < 0.5:
                server.restart()
            board.restart()
        server.make()
        if dice.random() < 0.5:
            server.desk.decide()
    for board in boards.values():
        board.kills = lambda: False
        board.turn()
    used = [(each.board, each.id) for v in server.shelf.versions.values() for each in v.offers]
    assert len(used) == len(set(used)), "an update was used twice"
    assert sum(map(len, updates.values())) > len(NAMES), "nothing went round"
    waiting = {name: facts.offer for name, facts in server.shelf.waiting().items()}
    oldest = min(v.number for v in server.shelf.versions.values() if v.number)
    for name, made in updates.items():
        known = {each for board, each in used if board == name} | {waiting.get(name)}
        # Of versions that are no more on record, neither are their offers.
        latest = made[-3:] if oldest > 1 else made
        lost = [each for each in latest if name_of(each) not in known]
        assert not lost, f"{len(lost)} updates of {name} are lost"


def test_days_away_and_back(server: Server, boards: dict[str, Board]) -> None:
    away = boards["yard"]
    away.box.offer("v0002", offer(0.5))
    away.online = False
    turns = [away.turn() for _ in range(12)]
    assert all("does not answer" in turn.trouble for turn in turns)
    assert turns[0].wait_s < 10
    assert 400 < turns[-1].wait_s <= 720, "it does not try every few seconds for days"
    assert "does not answer" in away.box.snapshot().trouble
    for day in range(3):  # nobody waits for it
        server.clock.at += 2 * DAY
        for name in ("front", "gate"):
            boards[name].box.offer("v0002", offer(0.1 * (day + 1)))
            boards[name].turn()
        server.clock.at += RULES.longest_wait_s
        assert server.make()
        for name in ("front", "gate"):
            boards[name].turn()
            vote(boards[name])
            boards[name].turn()
        assert server.desk.decide() is not None
    away.online = True
    assert away.turn().trouble == ""
    news = away.box.snapshot().facts.news
    assert news is not None
    assert news.published.number == 3
    assert away.box.release(news.published.sha256).exists()
    assert news.offer is not None
    assert news.offer.state == "waiting", "its base is three versions old, which still counts"
    assert away.box.snapshot().trouble == ""
    # Where the link does not run, nobody tells of a trouble.
    server.clock.at += DAY
    assert away.box.quiet
    away.turn()
    assert not away.box.quiet


def test_a_full_disk_of_the_board_is_told_and_mended(server: Server, boards: dict[str, Board]) -> None:
    for board in boards.values():
        board.box.offer("v0002", offer(0.1))
        board.turn()
    server.publish("front", "gate")
    board = boards["front"]
    board.free_bytes = 10
    turn = board.turn()
    assert "too full" in turn.trouble
    assert "too full" in board.box.snapshot().trouble  # where people look
    board.free_bytes = 1 << 40
    assert board.turn().trouble == ""
    assert list((board.folder / "releases").glob("*.safetensors"))
    assert board.box.snapshot().trouble == ""


def test_a_release_larger_than_any_model_of_the_fleet_is_not_fetched(
    boards: dict[str, Board],
) -> None:
    """A server that lies, or is broken, fills no disk and no memory."""
    board = boards["front"]
    news = messages.Synced(id=0, published=messages.Release(number=3, sha256="b" * 64, size=1 << 30))
    (want,) = board.box.news(news)
    with pytest.raises(BoxError, match="version 3 has 1073741824 bytes"):
        board.box.piece_of_release(want.release, 0, b"x")
    assert not list(board.folder.rglob("*.part"))


def test_a_replaced_board_begins_anew(server: Server, boards: dict[str, Board], tmp_path: Path) -> None:
    for board in boards.values():
        board.box.offer("v0002", offer(0.1))
        board.turn()
    first = server.publish("front", "gate")
    boards["front"].take(first)
    boards["front"].turn()
    # Another machine with the same kit and an empty state folder.
    new = Board("front", tmp_path / "another", server, server.clock)
    assert new.turn().trouble == ""
    facts = new.box.snapshot().facts
    assert facts.offer is None
    assert facts.news is not None
    assert facts.news.published.sha256 == first
    assert new.box.release(first).exists()
    new.box.offer("v0002", offer(0.3))
    new.turn()
    state = server.sync("front", data=offer(0.3)).offer
    assert state is not None
    assert state.state == "waiting"


def test_a_second_link_of_one_board_is_no_second_board(
    server: Server, boards: dict[str, Board], tmp_path: Path
) -> None:
    """As of `fleet join --once`, by hand beside the unit; a copied card has a daemon of its own."""
    front = boards["front"]
    by_hand = Relay(front._daemon, front)
    for _ in range(4):
        assert front.turn().trouble == ""
        assert by_hand.turn().trouble == ""
    copied = Board("front", tmp_path / "copied", server, server.clock)
    troubles = [each.turn().trouble for _ in range(3) for each in (copied, front)]
    assert "two boards use the kit of front" in troubles[-1]


def test_damaged_files_of_the_board_are_fetched_again(server: Server, boards: dict[str, Board]) -> None:
    for board in boards.values():
        board.box.offer("v0002", offer(0.1))
        board.turn()
    server.publish("front", "gate")
    board = boards["front"]
    board.turn()
    shutil.rmtree(board.folder)
    board.restart()
    assert board.turn().trouble == ""
    assert list((board.folder / "releases").glob("*.safetensors"))
    (board.folder / "box.json").write_text("{")
    board.restart()
    assert board.turn().trouble == ""


def test_a_board_of_another_root_is_told(
    server: Server, boards: dict[str, Board], monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(fleet_boards, "ROOT", replace(fleet_boards.ROOT, sha256="b" * 64))
    board = boards["front"]
    board.restart()
    assert "a fleet of its own" in board.turn().trouble
    assert "a fleet of its own" in board.box.snapshot().trouble


def test_a_board_makes_a_release_of_what_it_has(server: Server, boards: dict[str, Board]) -> None:
    """Offers and versions travel as changes, the root is never fetched, and the files are the server's."""
    front = boards["front"]
    for shift in (0.1, 0.2, 0.3):
        for name, board in boards.items():
            data = board.offers(f"v{shift}", shift + 0.01 * NAMES.index(name))
            assert board.box.snapshot().facts.offer is not None
            assert len(data) < len(offer(shift, board.lineage))
            board.turn()
        published = server.publish("front", "gate")
        front.turn()
        assert front.box.release(published).read_bytes() == server.fetch(published)
        front.take(published)
        front.box.judged(Judged(sha256=published, number=1, outcome="taken"))
        front.restart()
    changes = sum(each.size for each in server.sync("front").changes)
    assert server.desk.tallies.of_board("front", "out") == changes
    # After a rollback the offer is counted from the version before, which is still here.
    front.lineage = front.lineage[1:]
    front.offers("v9", 0.5)
    front.turn()
    news = front.box.snapshot().facts.news
    assert news is not None
    assert news.offer is not None
    assert news.offer.state == "waiting"


def test_a_first_model_that_was_written_anew_is_the_root_still(tmp_path: Path) -> None:
    """A daemon writes its first model with channel numbers: its file is another one than the root's."""
    paths = StatePaths(tmp_path)
    paths.models.mkdir()
    folder = write_root(paths.models / "v0001")
    paths.live_file.write_text('{"version": "v0001", "previous": "v0001", "frozen": "v0001"}')
    numbers = {f"origin/{name}/out": np.arange(layer.channels[1]) for name, layer in ROOT.layers.items()}
    data = safetensors.numpy.save({**{f"model/{n}": t for n, t in TENSORS.items()}, **numbers})
    (folder / TENSORS_FILE).write_bytes(data)
    channels = {name: layer.channels for name, layer in ROOT.layers.items()}
    card = replace(read_card(folder), sha256=name_of(data), channels=channels)
    (folder / CARD_FILE).write_bytes(encode_card(card))
    assert own_release(paths, ROOT) == FIRST
    # One that has lost channels, or goes back to another model, is none.
    (folder / CARD_FILE).write_bytes(encode_card(replace(card, channels={**channels, "stem": (3, 5, 1)})))
    assert own_release(paths, ROOT) is None
    (folder / CARD_FILE).write_bytes(encode_card(replace(card, root="b" * 64)))
    assert own_release(paths, ROOT) is None


@pytest.mark.parametrize("missed", [1, 3])
def test_a_board_that_missed_versions_gets_a_chain_or_a_whole_one(
    server: Server, boards: dict[str, Board], missed: int
) -> None:
    yard = boards["yard"]
    for number in range(missed):
        for name in ("front", "gate"):
            boards[name].box.offer(f"v{number}", offer(0.1 * number + 0.05))
            boards[name].turn()
        server.clock.at += RULES.longest_wait_s + 1
        published = server.publish("front", "gate")
    yard.turn()
    assert yard.box.release(published).read_bytes() == server.fetch(published)
    fetched = server.desk.tallies.of_board("yard", "out")
    changes, whole = [each.size for each in server.sync("yard").changes], server.shelf.published.size
    assert fetched == (sum(changes) if sum(changes) < whole else whole)
    assert (fetched == whole) is (missed == 3)


@pytest.mark.parametrize("why", ["no root", "another root's bytes", "an old server"])
def test_without_its_base_a_board_gets_whole_versions(
    server: Server, boards: dict[str, Board], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = boards["front"]
    front.first_model = None if why == "no root" else FIRST
    if why == "another root's bytes":
        # As from another release of a library that writes files: it is found out by the name.
        monkeypatch.setattr("dance_ondevice.daemon.rounds.fleet.releases.apply_change", lambda *_: b"other")
    if why == "an old server":
        answer = server.desk._sync

        def old(board: str, ask: messages.Sync) -> messages.Answer:
            found = answer(board, ask)
            assert isinstance(found, messages.Synced)
            return msgspec.structs.replace(found, speaks=1, changes=())

        monkeypatch.setattr(server.desk, "_sync", old)
    for board in boards.values():
        board.box.offer("v0002", offer(0.1))
        board.turn()
    published = server.publish("front", "gate")
    for _ in range(2):
        assert front.turn().trouble == ""
    assert front.box.release(published).read_bytes() == server.fetch(published)
    assert front.box.asks_who is (why != "an old server" and front.box.snapshot().boards is None)
    kept = sorted(path.name for path in (front.folder / "releases").iterdir())
    assert kept == [f"{published}.safetensors"]


def test_a_server_from_a_backup_gets_the_counts_again(
    server: Server, boards: dict[str, Board], tmp_path: Path
) -> None:
    """Boards score a version once; what the server has lost of that would be missing for ever."""
    for board in boards.values():
        board.box.offer("v0002", offer(0.1))
        board.turn()
    assert server.make()
    shutil.copytree(server.folder, tmp_path / "backup")
    front = boards["front"]
    front.turn()
    assert vote(front)
    front.turn()
    front.turn()
    assert front.box.snapshot().facts.ballot is None
    assert server.shelf.candidate is not None
    assert set(server.shelf.candidate.votes) == {"front"}
    shutil.rmtree(server.folder)
    shutil.copytree(tmp_path / "backup", server.folder)
    server.restart()
    front.restart()
    for _ in range(2):
        front.turn()
        assert server.shelf.candidate is not None
        assert set(server.shelf.candidate.votes) == {"front"}
    assert front.box.snapshot().facts.ballot is None


def test_counts_that_the_server_refuses_are_not_sent_again(server: Server, boards: dict[str, Board]) -> None:
    """As of a board whose labels have no class of the fleet's; each turn would write and send them anew."""
    for board in boards.values():
        board.box.offer("v0002", offer(0.1))
        board.turn()
    assert server.make()
    assert server.shelf.candidate is not None
    none = tally(0, pixels=0)
    front = boards["front"]
    front.box.scored(
        Ballot(
            sha256=server.shelf.candidate.sha256,
            candidate=none,
            against=server.shelf.published.sha256,
            published=none,
        )
    )
    for _ in range(3):
        assert front.turn().trouble == ""
    assert server.desk.tallies.refused["request"] == 1


def test_a_server_from_a_backup_gets_whole_offers(
    server: Server, boards: dict[str, Board], tmp_path: Path
) -> None:
    for board in boards.values():
        board.offers("v0002", 0.1)
        board.turn()
    shutil.copytree(server.folder, tmp_path / "backup")
    first = server.publish("front", "gate")
    front = boards["front"]
    front.turn()
    front.take(first)
    front.offers("v0003", 0.2)
    shutil.rmtree(server.folder)
    shutil.copytree(tmp_path / "backup", server.folder)
    server.restart()
    front.turn()
    news = front.box.snapshot().facts.news
    assert news is not None
    assert news.offer is not None
    assert (news.set_back, news.offer.state, news.offer.whole) == (True, "unknown", True)
    front.box.offer("v0003", offer(0.2, front.lineage))  # as the rounds do then
    front.turn()
    news = front.box.snapshot().facts.news
    assert news is not None
    assert news.offer is not None
    assert news.offer.state == "waiting"
