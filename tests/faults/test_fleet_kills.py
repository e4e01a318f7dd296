"""A fleet's server and the links of its boards are killed at random moments while updates go round.

Server and links are real processes over real encrypted sockets; the boards' daemons are their files and their
fleet's sockets, in this process. ``DANCE_FAULT_KILLS`` says how often; ``make faults`` sets 200.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from daemon_process import PATIENCE, free_port
from figures import Figures
from small_fleet import FIRST, ROOT, name_of, offer, tally, write_root

from dance_ondevice.benchmarks.robustness.report import FleetKills
from dance_ondevice.daemon.control import fleet as control
from dance_ondevice.daemon.control.server import ControlServer
from dance_ondevice.daemon.fleet.shelf import Shelf
from dance_ondevice.daemon.rounds.fleet.box import Ballot, Box, FleetPart
from dance_ondevice.daemon.security import kit
from dance_ondevice.daemon.versions.versions import Live, Pointer
from dance_ondevice.fleet.releases import decode_release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

KILLS = int(os.environ.get("DANCE_FAULT_KILLS", "4"))
NAMES = ("front", "gate", "yard")


class Board:
    """A board's files and its fleet's socket; its daemon starts anew with each ``restart``."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        folder.mkdir()
        self.lineage: list[str] = []
        self.made: list[bytes] = []
        self.socket = folder / "fleet.sock"
        self.server: ControlServer
        self._open()

    def _open(self) -> None:
        self.box = Box(self.folder / "fleet", ROOT, now=time.time, own_release=lambda: FIRST)
        part = FleetPart(box=self.box, root=ROOT)
        self.server = ControlServer(f"ipc://{self.socket}", control.handlers(part, self._live), name="fleet")
        self.server.start()

    def restart(self) -> None:
        assert self.server.stop(10)
        self._open()

    def act(self) -> None:
        """What the daemon's rounds do: offer what was learnt once the last is used, score, take."""
        news = self.box.snapshot().facts.news
        state = news.offer if news else None
        settled = state is not None and state.state in ("used", "declined")
        if not self.made or (settled and state is not None and state.id == name_of(self.made[-1])):
            shift = 0.01 * len(self.made) + 0.001 * NAMES.index(self.name)
            # Whole and as changes in turn, and whole where the server asks for it.
            base = self.box.content(self.lineage[0] if self.lineage else "") if len(self.made) % 2 else None
            self.made.append(offer(shift, self.lineage, base=base))
            self.box.offer(f"v{len(self.made):04}", self.made[-1], against=name_of(base) if base else "")
        if news is None:
            return
        if news.published.number and self.lineage[:1] != [news.published.sha256]:
            self.lineage = [news.published.sha256, *self.lineage][:16]
        if news.candidate is not None and not news.voted:
            ballot = Ballot(
                sha256=news.candidate.sha256,
                candidate=tally(90),
                against=news.published.sha256,
                published=tally(50),
            )
            self.box.scored(ballot)

    def _live(self) -> Live:
        training = {"steps": 1, "fleet": {"lineage": self.lineage, "samples": 1}}
        return Live(Pointer("v0002", "v0001", "v0001"), {"training": training})


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[dict[str, Board]]:
    found = {name: Board(name, tmp_path / name) for name in NAMES}
    yield found
    for board in found.values():
        board.server.stop(10)


@pytest.fixture
def kits(tmp_path: Path) -> kit.Written:
    model = write_root(tmp_path / "model")
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    made = kit.write(tmp_path / "fleet", NAMES, root=ROOT, model=model, bind=endpoint, endpoint=endpoint)
    file = made.server / "kit.json"
    settings = json.loads(file.read_bytes()) | {"sync_seconds": 0.05, "most_requests": 1000}
    settings["rules"] |= {"least_votes": 2, "least_share": 0.0}
    file.write_bytes(msgspec.json.encode(settings))
    return made


class Processes:
    """The server and the links."""

    def __init__(self, kits: kit.Written, boards: dict[str, Board], folder: Path) -> None:
        self.kits, self.boards, self.folder = kits, boards, folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.started: dict[str, float] = {}

    def start(self, name: str) -> None:
        self.started[name] = time.time()
        environ = dict(os.environ)
        if name == "server":
            arguments = ["serve", "--kit", str(self.kits.server), "--metrics", ""]
        else:
            arguments = ["join", "--kit", str(self.kits.boards[name])]
            environ["DANCE_FLEET_SOCKET"] = str(self.boards[name].socket)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "dance_ondevice", "fleet", *arguments],
                stdout=log,
                stderr=log,
                env=environ,
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def all_at_work(self) -> bool:
        """Whether every board has heard of the server since its link, or the server, was started."""
        started = self.started["server"]
        return all(
            board.box.heard_at > max(started, self.started[name]) for name, board in self.boards.items()
        )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(30)


def test_kills_lose_and_double_no_update(
    kits: kit.Written, boards: dict[str, Board], tmp_path: Path, figures: Figures
) -> None:
    dice = random.Random(11)
    killed: Counter[str] = Counter()
    processes = Processes(kits, boards, tmp_path)
    for name in ("server", *NAMES):
        processes.start(name)
    try:
        for _ in range(KILLS):
            # Mostly at work, now and then while they start: on a busy machine that takes long.
            working = time.monotonic() + (60.0 if dice.random() < 0.7 else 0.0)
            while time.monotonic() < working and not processes.all_at_work():
                _live_on(boards)
            rest = time.monotonic() + dice.uniform(0.0, 2.0)
            while time.monotonic() < rest:  # the moment of the kill is what is tried here
                _live_on(boards)
            name = dice.choice(("server", *NAMES))
            processes.kill(name)
            killed["server" if name == "server" else "links"] += 1
            if name != "server" and dice.random() < 0.5:
                boards[name].restart()
            processes.start(name)
        # All that was offered arrives, and something went round meanwhile.
        deadline = time.monotonic() + PATIENCE
        while not all(_arrived(board) for board in boards.values()):
            assert time.monotonic() < deadline, {
                name: processes.log(name)[-1500:] for name in ("server", *NAMES)
            }
            for name, process in processes.running.items():
                assert process.poll() is None, processes.log(name)[-1500:]
            _live_on(boards)
    finally:
        for name in list(processes.running):
            processes.kill(name)
    shelf = Shelf(kits.server / "state")
    shelf.open()
    used = [(each.board, each.id) for version in shelf.versions.values() for each in version.offers]
    assert len(used) == len(set(used)), "an update was used twice"
    waiting = {name: facts.offer for name, facts in shelf.waiting().items()}
    assert shelf.published.number >= 1
    for name, board in boards.items():
        known = {offered for who, offered in used if who == name} | {waiting.get(name)}
        lost = [each for each in board.made[-5:] if name_of(each) not in known]
        assert not lost, f"{len(lost)} updates of {name} are lost"
    for version in shelf.versions.values():  # what boards can still fetch loads
        if version.status != "declined":
            decode_release(shelf.release(version.number).read_bytes(), ROOT, version.sha256)
    figures.fleet.append(
        FleetKills(
            kills=dict(killed),
            updates=sum(len(board.made) for board in boards.values()),
            versions=shelf.published.number,
            lost=0,
            doubled=0,
        )
    )
    print(figures.fleet[-1])


def _live_on(boards: dict[str, Board]) -> None:
    for board in boards.values():
        board.act()
    time.sleep(0.02)


def _arrived(board: Board) -> bool:
    news = board.box.snapshot().facts.news
    state = news.offer if news else None
    return (
        state is not None
        and bool(board.made)
        and state.id == name_of(board.made[-1])
        and state.state in ("waiting", "judging", "used", "declined")
        and len(board.made) > 1
    )
