"""What a fleet's server answers, keeps and publishes; time is moved, and restarts read the files anew."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from small_fleet import DAY, FIRST, ROOT, RULES, TENSORS, Clock, Server, name_of, offer, tally

from dance_ondevice.daemon.fleet.doubles import Doubles
from dance_ondevice.daemon.fleet.shelf import ShelfError
from dance_ondevice.daemon.wire import fleet_messages as messages
from dance_ondevice.files import write_durably
from dance_ondevice.fleet.releases import apply_change, decode_release, encode_change

BOARDS = ("front", "gate", "yard")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "server", Clock())


def test_offers_become_a_version_that_boards_fetch(server: Server) -> None:
    for index, board in enumerate(BOARDS):
        assert server.put(board, offer(0.5 * index), piece=100).state == "waiting"
    first = server.publish("front", "gate")
    found = decode_release(server.fetch(first), ROOT, first)
    assert "norm.running_mean" not in found
    for name, tensor in found.items():  # equal samples: the mean of 0, 0.5 and 1
        assert np.allclose(tensor, TENSORS[name] + 0.5, atol=2e-3), name
    news = server.sync("front", data=offer(0.0))
    assert news.published.number == 1
    assert news.candidate is None
    assert news.offer is not None
    assert (news.offer.state, news.offer.version) == ("used", 1)
    assert not news.set_back


def test_a_second_offer_counts_only_what_came_since(server: Server) -> None:
    """Boards that take no version offer their whole model again: what was used must not be added twice."""
    for board in BOARDS:
        server.put(board, offer(0.25))
    first = server.publish("front", "gate")
    for board in BOARDS:  # all refused the version at their own gates, and learnt on
        server.put(board, offer(0.5))
    server.restart()
    second = server.publish("front", "gate")
    assert first != second
    # Staleness halves no offer here: the change since is 0.25, shortened by the root of two versions.
    expected = 0.25 + 0.25 / np.sqrt(2)
    found = decode_release(server.fetch(second), ROOT, second)
    assert np.allclose(found["stem.weight"], TENSORS["stem.weight"] + expected, atol=3e-3)


def _with_a_full_disk(server: Server, step: str, board: str, data: bytes, written: int) -> None:
    """Take a step of a server whose disk takes so many files more, and no other."""
    left = [written]

    def write(path: Path, content: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        write_durably(path, content)

    with pytest.MonkeyPatch.context() as patched:
        for module in ("shelf", "making"):
            patched.setattr(f"dance_ondevice.daemon.fleet.{module}.write_durably", write)
        try:
            if step == "put":
                ref = messages.OfferRef(id=name_of(data), size=len(data))
                server.desk.answer(board, messages.Put(id=1, offer=ref, offset=0), data)
            elif step == "make":
                server.make()
            elif step == "vote" and server.shelf.candidate is not None:
                server.vote(board)
            elif step == "decide":
                server.desk.decide()
        except OSError:  # which the server's thread meets, and tries another time
            pass


def test_no_kill_loses_or_doubles_an_offer(tmp_path: Path) -> None:
    """The server is killed after any of its steps, or its disk is full at any write of one.

    Boards keep their offers until the receipt says used.
    """
    dice = random.Random(7)
    for trial in range(4):
        server = Server(tmp_path / str(trial), Clock())
        data = {board: offer(0.1 * (1 + index)) for index, board in enumerate(BOARDS)}
        for _ in range(60):
            if dice.random() < 0.4:
                server.restart()
            board = dice.choice(BOARDS)
            step = dice.choice(("put", "make", "vote", "decide"))
            if trial % 2 and dice.random() < 0.3:
                _with_a_full_disk(server, step, board, data[board], dice.randrange(4))
            elif step == "put":
                server.put(board, data[board], piece=dice.choice((64, 5000)))
            elif step == "make":
                server.make()
            elif step == "vote" and server.shelf.candidate is not None:
                server.vote(board)
            elif step == "decide":
                server.desk.decide()
        used = [each.id for v in server.shelf.versions.values() for each in v.offers]
        assert len(used) == len(set(used))
        for board, each in data.items():
            state = server.put(board, each)
            assert state.state != "unknown"
            assert (state.state in ("used", "judging")) == (name_of(each) in used)


def test_a_crash_between_offer_and_receipt_is_mended(server: Server) -> None:
    data = offer(1.0)
    half = len(data) // 2
    ref = messages.OfferRef(id=name_of(data), size=len(data))
    server.desk.answer("front", messages.Put(id=1, offer=ref, offset=0), data[:half])
    server.restart()
    state = server.sync("front", data=data).offer
    assert state is not None
    assert (state.state, state.have) == ("unknown", half)
    # Pieces that come twice, or from elsewhere, change nothing.
    for offset in (0, half + 1):
        answer, _ = server.desk.answer("front", messages.Put(id=1, offer=ref, offset=offset), b"x" * 10)
        assert isinstance(answer, messages.Stored)
        assert answer.offer.have == half
    # What is damaged on the way comes once more.
    answer, _ = server.desk.answer(
        "front", messages.Put(id=1, offer=ref, offset=half), b"x" * (len(data) - half)
    )
    assert isinstance(answer, messages.Stored)
    assert (answer.offer.state, answer.offer.have) == ("unknown", 0)
    assert server.put("front", data).state == "waiting"
    assert [p.name for p in (server.folder / "boards" / "front").glob("*.part")] == []


def test_refuses_what_cannot_be_averaged_and_says_why(server: Server) -> None:
    for data, why in (
        (offer(float("nan")), "not finite"),
        (offer(0.0, samples=-1), "negative"),
        (b"no safetensors at all", "not a safetensors"),
    ):
        state = server.put("front", data)
        assert state.state == "refused"
        assert why in state.reason
        assert list((server.folder / "boards" / "front").glob("*.offer")) == []
    for ref in (messages.OfferRef(id="../../x", size=9), messages.OfferRef(id="a" * 64, size=10**9)):
        answer, _ = server.desk.answer("front", messages.Put(id=1, offer=ref, offset=0), b"123")
        assert isinstance(answer, messages.Refusal)
    answer, _ = server.desk.answer("front", messages.Sync(id=1, root="b" * 64), b"")
    assert isinstance(answer, messages.Refusal)
    assert "a fleet of its own" in answer.reason
    answer, _ = server.desk.answer("front", messages.Get(id=1, sha256="../../root", offset=0), b"")
    assert isinstance(answer, messages.Refusal)
    assert not server.make()


def test_a_board_that_was_away_for_weeks_is_told(server: Server) -> None:
    """Nobody waits for it; its old offer is refused with a reason, and a newer version is there for it."""
    old = offer(9.0)
    server.sync("away")
    number = 0
    lineage: list[str] = []
    while number <= RULES.oldest_base:
        server.clock.at += 2 * DAY
        for board in BOARDS:
            server.put(board, offer(0.01 * number, lineage))
        lineage.insert(0, server.publish("front", "gate"))
        number += 1
    state = server.put("away", old)
    assert state.state == "refused"
    assert "take a newer one first" in state.reason
    assert server.sync("away").published.number == number
    assert server.desk.presence.lately() == 4
    server.clock.at += 30 * DAY
    assert server.desk.presence.lately() == 0
    # Having taken the newest, it counts again.
    server.sync("away", lineage=lineage[:1])
    assert server.put("away", offer(0.0, lineage[:1])).state == "waiting"
    kept = [v.number for v in server.shelf.versions.values()]
    assert len(kept) <= RULES.oldest_base + 3


def test_a_server_from_yesterdays_backup_gets_back_what_it_lacks(server: Server, tmp_path: Path) -> None:
    for board in BOARDS:
        server.put(board, offer(0.1))
    first = server.publish("front", "gate")
    shutil.copytree(server.folder, tmp_path / "backup")
    data = {board: offer(0.2, [first]) for board in BOARDS}
    for board in BOARDS:
        server.put(board, data[board])
    second = server.publish("front", "gate")
    shutil.rmtree(server.folder)
    shutil.copytree(tmp_path / "backup", server.folder)
    server.restart()
    # A board that took the lost version is told so, and its offer is asked for anew.
    news = server.sync("front", lineage=[second, first], data=data["front"])
    assert news.set_back
    assert news.published.sha256 == first
    assert news.offer is not None
    assert news.offer.state == "unknown"
    for board in BOARDS:  # learnt on from the lost version; counted from the one that both know
        assert server.put(board, offer(0.3, [second, first])).state == "waiting"
    third = server.publish("front", "gate")
    found = decode_release(server.fetch(third), ROOT, third)
    assert np.allclose(found["stem.weight"], TENSORS["stem.weight"] + 0.3, atol=3e-3)


def test_a_full_disk_loses_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    data = offer(1.0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("dance_ondevice.daemon.fleet.shelf.write_durably", full)
        ref = messages.OfferRef(id=name_of(data), size=len(data))
        answer, _ = server.desk.answer("front", messages.Put(id=1, offer=ref, offset=0), data)
        assert isinstance(answer, messages.Refusal)
        assert "No space left" in answer.reason
        assert answer.retry_s > 0
        # Whoever asks for news gets them: what there is to fetch needs no room here.
        for lineage in ([], [name_of(FIRST)]):
            assert server.sync("yard", lineage=lineage).published.number == 0
    assert server.put("front", data).state == "waiting"


def test_volunteers_decide(server: Server) -> None:
    for board in BOARDS:
        server.put(board, offer(0.1))
    assert server.make()
    assert server.sync("front").candidate is not None
    assert not server.make()  # one at a time
    wrong = messages.Score(
        id=1, sha256="0" * 64, candidate=tally(9), against=server.shelf.published.sha256, published=tally(9)
    )
    answer, _ = server.desk.answer("front", wrong, b"")
    assert isinstance(answer, messages.Scored)
    assert not answer.counted
    server.vote("front", candidate=40, published=50)
    assert server.sync("front").voted
    server.vote("front", candidate=99)  # a second vote of the same board does not count
    found = server.desk.decide()
    assert found is not None
    assert found.outcome == "wait"
    server.restart()
    server.vote("gate", candidate=55, published=60)
    found = server.desk.decide()
    assert found is not None
    assert found.outcome == "declined"
    assert server.shelf.published.number == 0
    state = server.sync("front", data=offer(0.1)).offer
    assert state is not None
    assert state.state == "declined"
    # The next offers count from the version before, whole.
    for board in BOARDS:
        server.put(board, offer(0.2))
    second = server.publish("front", "yard")
    found = decode_release(server.fetch(second), ROOT, second)
    assert np.allclose(found["stem.weight"], TENSORS["stem.weight"] + 0.2, atol=2e-3)


def test_without_volunteers_a_version_is_declined_in_time(server: Server) -> None:
    for board in BOARDS:
        server.put(board, offer(0.1))
    assert server.make()
    server.clock.at += RULES.longest_vote_s + 1
    found = server.desk.decide()
    assert found is not None
    assert (found.outcome, found.reason) == ("declined", "no volunteer scored it in time")


def test_a_clock_that_is_set_leaves_volunteers_their_time(server: Server) -> None:
    """Without a battery for its clock a server starts in the past and makes a version before NTP comes."""
    server.clock.at -= 3 * RULES.longest_vote_s
    for board in BOARDS:
        server.put(board, offer(0.1))
    assert server.make()

    def outcome() -> str:
        found = server.desk.decide()
        assert found is not None
        return found.outcome

    assert outcome() == "wait"
    server.clock.at += 3 * RULES.longest_vote_s
    server.clock.stepped += 3 * RULES.longest_vote_s
    assert outcome() == "wait"
    server.restart()
    assert outcome() == "wait"
    server.clock.at += 3601
    assert outcome() == "declined"


@pytest.mark.parametrize("how", ["set", "off"])
def test_one_board_decides_alone_for_none_after_the_calendar_leapt(server: Server, how: str) -> None:
    """A clock that is set forward, or a server that was off, makes all boards silent for weeks at once."""
    for board in BOARDS:
        server.put(board, offer(0.1))
    assert server.make()
    server.clock.at += 20 * DAY
    if how == "set":
        server.clock.stepped += 20 * DAY
    else:
        server.restart()
    server.sync("front")
    server.vote("front")
    found = server.desk.decide()
    assert found is not None
    assert (found.outcome, found.reason) == ("wait", "1 of 2 volunteers have scored it")
    if how == "off":  # who was not heard of since the start is not waited for any longer
        server.clock.at += 3601
        server.sync("front")
        found = server.desk.decide()
        assert found is not None
        assert found.outcome == "published"


def test_two_boards_with_one_kit_are_told(server: Server) -> None:
    def sync(word: str) -> messages.Answer:
        ask = messages.Sync(id=1, root=ROOT.sha256, session=word)
        return server.desk.answer("front", ask, b"")[0]

    # Restarts and links of earlier releases are one board.
    for word in ("a", "a", "b", "", "b", "c", "", "d"):
        assert isinstance(sync(word), messages.Synced), word
    assert isinstance(sync("c"), messages.Synced)
    told = [sync(word) for word in ("d", "c")]
    assert all(isinstance(each, messages.Refusal) and "the kit of front" in each.reason for each in told)
    ask = messages.Sync(id=1, root=ROOT.sha256, session="c")
    assert isinstance(server.desk.answer("yard", ask, b"")[0], messages.Synced)
    server.clock.at += 3601
    assert isinstance(sync("c"), messages.Synced)  # one of them has got a kit of its own


def test_two_boards_with_one_kit_are_told_however_seldom_they_ask() -> None:
    clock = [0.0]
    doubles = Doubles(lambda: clock[0], turn_s=21_600.0)
    told = []
    for turn in range(6):
        clock[0] = turn * 10_800.0
        told.append(doubles.heard("front", "ab"[turn % 2]))
    assert told == [False, False, False, True, True, True]


def test_damaged_state_is_named(server: Server) -> None:
    (server.folder / "versions" / "000000" / "facts.json").write_text("{")
    with pytest.raises(ShelfError, match=r"000000/facts\.json"):
        server.restart()


def test_changes_travel_instead_of_models(server: Server) -> None:
    """What boards hand in and get is counted from a release that both ends have."""
    assert server.sync("front").changes == ()
    data = {board: offer(0.5 * index, base=FIRST) for index, board in enumerate(BOARDS)}
    for board in ("front", "gate"):
        assert server.put(board, data[board], against=name_of(FIRST)).state == "waiting"
    assert server.put("yard", offer(1.0)).state == "waiting", "boards of the first version hand in whole ones"
    first = server.publish("front", "gate")
    (change,) = server.sync("front").changes
    assert (change.release, change.base) == (first, name_of(FIRST))
    assert change.size < len(server.fetch(first)) or len(FIRST) < 1000
    release = apply_change(ROOT, server.fetch(change.sha256), FIRST)
    assert release == server.fetch(first)
    found = decode_release(release, ROOT, first)
    for name, tensor in found.items():
        assert np.allclose(tensor, TENSORS[name] + 0.5, atol=0.04), name
    # The second offer counts what came since, whatever was rounded: both are states, not steps.
    for board in BOARDS:
        assert server.put(board, offer(1.0, base=FIRST), against=name_of(FIRST)).state == "waiting"
    server.restart()
    second = server.publish("front", "gate")
    changes = {each.release: each for each in server.sync("front").changes}
    assert set(changes) == {first, second}
    assert apply_change(ROOT, server.fetch(changes[second].sha256), release) == server.fetch(second)


def test_an_offer_is_asked_for_whole_where_its_base_is_not_known(server: Server) -> None:
    lost = apply_change(ROOT, encode_change(ROOT, {n: t + 1 for n, t in TENSORS.items()}, FIRST), FIRST)
    data = offer(1.5, [name_of(lost)], base=lost)
    state = server.put("front", data, against=name_of(lost))
    assert (state.state, state.whole) == ("unknown", True)
    # A board that says another base than its file is found out when the file is there.
    ref = messages.OfferRef(id=name_of(data), size=len(data))
    answer, _ = server.desk.answer("front", messages.Put(id=1, offer=ref, offset=0), data)
    assert isinstance(answer, messages.Stored)
    assert (answer.offer.state, answer.offer.whole, answer.offer.have) == ("unknown", True, 0)
    assert list((server.folder / "boards" / "front").glob("*.part")) == []
    assert server.put("front", offer(1.5, [name_of(lost)])).state == "waiting"
    # Counted from another version than its lineage names, its change would be added to the wrong one.
    for board in BOARDS:
        server.put(board, offer(0.1))
    first = server.publish("front", "gate")
    state = server.put("front", offer(0.2, [first], base=FIRST), against=name_of(FIRST))
    assert state.state == "refused"
    assert "counted from another version than 1" in state.reason


def test_people_see_who_is_in(server: Server) -> None:
    for board in BOARDS:
        server.put(board, offer(0.1))
    first = server.publish("front", "gate")
    server.sync("front", lineage=[first])
    server.clock.at += 60
    server.put("gate", offer(0.2))
    answer, _ = server.desk.answer("yard", messages.Who(id=9), b"")
    assert isinstance(answer, messages.Boards)
    assert (answer.id, answer.count) == (9, 3)
    front, gate, yard = answer.boards
    assert (front.name, front.version, front.heard_s, front.waiting) == ("front", 1, 60.0, False)
    assert (gate.version, gate.heard_s, gate.waiting) == (0, 0.0, True)
    assert front.gain == pytest.approx(0.4, abs=0.2)
    assert yard.gain is None
    assert front.sent == len(offer(0.1))
    assert front.received == 0
    server.fetch(first)
    answer, _ = server.desk.answer("yard", messages.Who(id=9), b"")
    assert isinstance(answer, messages.Boards)
    assert answer.count == 3, "a stranger's request for a file makes no board"
    # Of hundreds each is named, the silent ones too, and the answer fits into one message.
    for number in range(600):
        server.desk.presence.heard(f"{number:03d}{'x' * 61}")
    answer, _ = server.desk.answer("yard", messages.Who(id=9), b"")
    assert isinstance(answer, messages.Boards)
    assert (answer.count, len(answer.boards)) == (603, 500)
    longest = msgspec.structs.replace(
        answer.boards[0], heard_s=123456789.123456, refused=123, gain=-0.0123456789012345, sent=10**12
    )
    assert len(messages.encode(msgspec.structs.replace(answer, boards=(longest,) * 500))) < messages.MOST_PART
