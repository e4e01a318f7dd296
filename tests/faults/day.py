"""A day in the life of a daemon, as fast as the board takes it: frames, drift, rounds, kills and restarts.

``Day`` is what a camera sees from midnight to midnight, and what became of each frame; ``DayCamera`` sends it
to one life of a daemon; ``LongDay`` starts rounds, kills trainers and ends the daemon's lives.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import zmq
from daemon_process import PATIENCE, Daemon
from day_children import Trainer, hold_trainer
from ingest_harness import header
from senders import PRIORITY, WINDOW, Promises, audit, check_live_model, check_no_refund, dice, lost_samples

from dance_ondevice.daemon.store.scan import scan
from dance_ondevice.daemon.store.service import open_reader
from dance_ondevice.daemon.system.state import StatePaths, sample_id
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images import codec as images

CAMERA = "gate-3"
MIDNIGHT = 1_760_054_400.0
DAY_SECONDS = 86_400.0
#: The light, in turn, for equal parts of the day.
LIGHTS = ("day", "dusk", "rain", "night", "day")
#: One frame of so many comes with its label.
LABEL_EVERY = 3
#: Frames of one chapter: each starts a round of its own, and each has its fate.
CHAPTER = 250
#: What becomes of the chapters' rounds and of the daemon meanwhile, in turn.
FATES = ("finish", "kill trainer", "stop", "kill", "kill at candidate")
#: Those of them for which the trainer is held still meanwhile, so that they surely meet a round.
HELD = ("kill trainer", "stop", "kill")
#: Of the frames of a chapter, those that come before its round; the others come while it runs.
BEFORE_ROUND = 0.6

JOULES_PER_DAY = 5_000_000
#: The least that the configuration allows.
QUOTA_BYTES = 1 << 20
#: Samples that go at once: a fiftieth of the quota, in frames of more than half a kilobyte.
MOST_EVICTED = 32

# Rounds by the clock, too; blocks of time as long as a day of few frames needs them; so few bytes that most
# samples of the day must go again; joules enough for every round, since a kill costs all that was reserved.
CHANGES = (
    (
        'interval = "1h"\nepochs = 1',
        'interval = "20s"\nepochs = 2\nmin_new_samples = 24\nmax_samples = 48\ngate_max_samples = 24\n'
        'gate_block = "20m"',
    ),
    ("min_free_bytes = 0", f"min_free_bytes = 0\nquota_bytes = {QUOTA_BYTES}"),
    ("max_watts = 4.0", f"max_watts = 4.0\nbudget_joules_per_day = {JOULES_PER_DAY}"),
)


class Day:
    """The frames of a day, evenly spaced, and what was answered to each; shared by test and camera."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.promises = Promises()
        #: By frame: kept or dropped.
        self.final: dict[int, str] = {}
        #: Answers of the daemon that lives, by what its counters call them.
        self.life: Counter[str] = Counter()
        #: Ids of frames that were under way when a daemon ended: it may have stored them and not said so.
        self.unanswered: set[str] = set()
        self.sent_again = 0
        #: Ids of all that was ever found in the store, and how many frames came to it a second time: stored
        #: without an answer, they had been evicted before they were sent again.
        self.seen: set[str] = set()
        self.stored_again = 0
        self.changed = threading.Condition()
        #: What ended the camera, if anything did.
        self.failure: BaseException | None = None
        self._street = StreetCamera(seed=3, height=48, width=64)
        self._again: collections.deque[int] = collections.deque()
        self._next = 0
        self._allowed = 0

    def captured_at(self, number: int) -> float:
        """When a frame is taken, seconds since the epoch."""
        return MIDNIGHT + number * DAY_SECONDS / self.frames

    def sample_id(self, number: int) -> str:
        """Under which name a frame is stored."""
        return sample_id(CAMERA, self.captured_at(number), number)

    def parts(self, number: int) -> list[bytes]:
        """The message of a frame, the same each time."""
        image, label = self._street.render(number, LIGHTS[number * len(LIGHTS) // self.frames])
        head = header(camera=CAMERA, seq=number, captured_at=self.captured_at(number))
        parts = [head, images.encode_jpeg(image)]
        return [*parts, images.encode_png(label)] if number % LABEL_EVERY == 0 else parts

    def allow(self, frames: int) -> None:
        """Let the camera send the day's frames up to this one."""
        with self.changed:
            self._allowed = frames

    def take_next(self) -> int | None:
        """The next frame to send: those that nobody answered come first. None while there is none."""
        with self.changed:
            if self._again:
                self.sent_again += 1
                number = self._again.popleft()
            elif self._next < self._allowed:
                number = self._next
                self._next += 1
            else:
                return None
            self.promises.sent += 1
            return number

    def answered(self, number: int, digest: str, reply: dict[str, Any]) -> None:
        """Take note of an answer; a frame that was refused is sent again."""
        outcome = "rejected" if not reply["ok"] else "kept" if reply["kept"] else "dropped"
        with self.changed:
            self.life["overflow" if reply.get("code") == "overflow" else outcome] += 1
            self.promises.answers[outcome] += 1
            if outcome == "rejected":
                # Only a daemon that is about to end refuses a sound frame.
                assert reply["code"] == "stopping", reply
                self._again.append(number)
            else:
                assert number not in self.final, f"frame {number} was answered twice"
                self.final[number] = outcome
            if outcome == "kept":
                assert reply["id"] == self.sample_id(number)
                self.promises.kept[reply["id"]] = digest
                self.stored_again += reply["id"] in self.seen and reply["reason"] != "already stored"
            self.changed.notify_all()

    def lost(self, numbers: list[int]) -> None:
        """A daemon ended with these under way."""
        with self.changed:
            self._again.extendleft(reversed(numbers))
            self.unanswered.update(map(self.sample_id, numbers))

    def wait_for_answers(self, count: int, daemon: Daemon) -> None:
        """Until so many frames of the day have their answer."""
        process = daemon.process
        assert process is not None
        deadline = time.monotonic() + PATIENCE
        with self.changed:
            while len(self.final) < count:
                self.changed.wait(0.2)
                assert self.failure is None, self.failure
                assert process.poll() is None, daemon.log.read_text()[-4000:]
                assert time.monotonic() < deadline, (len(self.final), count, self.promises.answers)


class DayCamera(threading.Thread):
    """Sends what the day allows to one daemon, ``WINDOW`` frames under way, until it is told to stop."""

    def __init__(self, endpoint: str, day: Day) -> None:
        super().__init__(name="day-camera", daemon=True)
        self._endpoint = endpoint
        self._day = day
        self._halt = threading.Event()
        self._under_way: dict[int, str] = {}

    def run(self) -> None:
        try:
            with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
                socket.linger = socket.sndtimeo = 0
                # What a killed daemon left in the kernel's buffers still counts as said.
                socket.reconnect_ivl = -1
                socket.connect(self._endpoint)
                while not self._halt.is_set():
                    self._send(socket)
                    self._take(socket, 20)
                while self._take(socket, 200):
                    pass
        except BaseException as error:
            self._day.failure = error
            raise

    def stop(self) -> None:
        """Take in the answers that have arrived; what has none is to be sent again."""
        self._halt.set()
        self.join(60)
        assert not self.is_alive()
        assert self._day.failure is None, self._day.failure
        self._day.lost(sorted(self._under_way))

    def _send(self, socket: zmq.Socket[bytes]) -> None:
        while len(self._under_way) < WINDOW and (number := self._day.take_next()) is not None:
            parts = self._day.parts(number)
            self._under_way[number] = hashlib.sha1(parts[1]).hexdigest()
            try:
                socket.send_multipart(parts)
            except zmq.Again:  # the daemon is gone: it stays without an answer
                self._halt.set()
                return

    def _take(self, socket: zmq.Socket[bytes], patience_ms: int) -> bool:
        if not socket.poll(patience_ms):
            return False
        reply = json.loads(socket.recv_multipart()[-1])
        number = int(reply["seq"])
        self._day.answered(number, self._under_way.pop(number), reply)
        return True


class LongDay:
    """A daemon through a day; looks at what each of its lives leaves behind."""

    def __init__(self, folder: Path, frames: int) -> None:
        self.day = Day(frames)
        self.daemon = Daemon(folder, inference=True, priority=PRIORITY)
        # Evictions are told by name.
        self.daemon.options = ("--log-level", "debug")
        text = self.daemon.config.read_text()
        for old, new in CHANGES:
            assert old in text
            text = text.replace(old, new)
        self.daemon.config.write_text(text)
        self.paths = StatePaths(self.daemon.state)
        #: How daemons ended, and how many of them amid a round or with a round between its two last steps.
        self.ends: Counter[str] = Counter()
        #: Rounds whose trainer was killed while they ran.
        self.killed_rounds: set[str] = set()
        #: Evictions that a kill kept out of the log.
        self.unlogged = 0
        self.conditions: set[str] = set()
        self._books: dict[str, Any] | None = None
        self._camera: DayCamera | None = None
        self._chance = dice("day", frames)

    def live(self) -> None:
        """From the first frame to the last, and a stop when all is quiet."""
        for number, first in enumerate(range(0, self.day.frames, CHAPTER)):
            self._chapter(FATES[number % len(FATES)], first, min(first + CHAPTER, self.day.frames))
        self._wake()
        self._settle(self.day.frames)
        self.daemon.ask("pause")
        self._wait(
            lambda: not self.open_rounds() and not self.daemon.ask("status")["rounds"]["running"], pause=0.1
        )
        self._check_counters()
        self._end(signal.SIGTERM)

    def kill_all(self) -> None:
        """Leave nothing running."""
        if self.daemon.process is not None:
            self.daemon.stop(signal.SIGKILL)

    def logged(self, pattern: str) -> list[str]:
        """What the daemon's log says over all lives: the first group of each match."""
        return re.findall(pattern, self.daemon.log.read_text())

    def _chapter(self, fate: str, first: int, last: int) -> None:
        self._wake()
        quiet = first + int((last - first) * BEFORE_ROUND)
        self._settle(quiet)
        versions = self._versions()
        if fate in HELD:
            self._end_amid_a_round(fate, quiet, last)
            return
        request = self.daemon.ask("train_now")["request"]

        def done() -> bool:
            return bool(self.daemon.ask("train_status", request=request)["state"] == "done")

        self.daemon.wait_until(lambda status: done() or status["rounds"]["running"])
        self._send_some(quiet, last)
        if fate == "kill at candidate":
            # Between the two halves of a promotion, or of a refusal: the version is there, the round is open.
            self._wait(lambda: self._versions() - versions or done(), pause=0.002)
            self._end(signal.SIGKILL)
        else:
            self._wait(done, pause=0.1)

    def _end_amid_a_round(self, fate: str, quiet: int, last: int) -> None:
        """Frames come while a round is under way; then its trainer or the daemon ends."""
        amid_steps = fate == "stop" or self._chance.random() < 0.5
        trainer = self._held_trainer(amid_steps=amid_steps)
        self._send_some(quiet, last)
        while trainer.round not in self.open_rounds():
            # It stood still for so long that its joules or its time were spent, which ends a round as well.
            trainer = self._held_trainer(amid_steps=amid_steps)
        if fate == "kill trainer":
            self.killed_rounds.add(trainer.round)
            trainer.send(signal.SIGKILL)
            self._wait(lambda: trainer.round not in self.open_rounds(), pause=0.1)
            return
        if fate == "stop":
            trainer.send(signal.SIGCONT)
        self._end(signal.SIGTERM if fate == "stop" else signal.SIGKILL)
        # It may stand since before it asked to be killed with its parent: going on, it sees that it has none.
        trainer.send(signal.SIGCONT)

    def _held_trainer(self, *, amid_steps: bool) -> Trainer:
        """A trainer that stands still, so that its round is open; rounds are asked for until there is one."""
        pid = self.daemon.running.pid
        deadline = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < deadline, self.daemon.log.read_text()[-4000:]
            request = self.daemon.ask("train_now")["request"]
            state = {"state": ""}
            while state["state"] != "done":
                state = self.daemon.ask("train_status", request=request)
                rounds = self.daemon.ask("status")["rounds"]
                if rounds["step" if amid_steps else "running"] and (trainer := hold_trainer(pid)):
                    return trainer

    def _send_some(self, quiet: int, last: int) -> None:
        self.day.allow(last)
        self.day.wait_for_answers(self._chance.randint(quiet, last - WINDOW), self.daemon)

    def _wake(self) -> None:
        if self._camera is None:
            self.day.life.clear()
            self.daemon.start()
            self._camera = DayCamera(self.daemon.facts["ingest"][0], self.day)
            self._camera.start()

    def _settle(self, count: int) -> None:
        self.day.allow(count)
        self.day.wait_for_answers(count, self.daemon)
        self._check_counters()

    def _check_counters(self) -> None:
        """With nothing under way the daemon counts what the camera was told, since it started."""
        status = self.daemon.ask("status")
        assert Counter(status["frames"]) == self.day.life
        # Inference looks at the newest frames: what it noticed of the light's changes counts from each start.
        self.conditions |= status["conditions"]["known"].keys()

    def _end(self, number: int) -> None:
        name = signal.Signals(number).name
        self.ends[name] += 1
        self.ends[f"{name} amid a round"] += bool(self.open_rounds())
        status = self.daemon.stop(number)
        if number == signal.SIGTERM:
            assert status == 0, self.daemon.log.read_text()[-4000:]
        assert self._camera is not None
        self._camera.stop()
        self._camera = None
        books = audit(self.daemon.state, self.day.promises, evicts=True)
        if self._books is not None:
            check_no_refund(self._books, books)
            for entry, closed in self._books["closed"].items():
                assert books["closed"][entry] == closed, f"entry {entry} was settled twice"
        self._books = books
        check_live_model(self.daemon.state)
        self._account_for_evictions(number)
        born = {_round_of(self.paths.models / version) for version in self._versions()}
        self.ends[f"{name} with a candidate born"] += bool(self.open_rounds() & born)

    def _account_for_evictions(self, number: int) -> None:
        """What was stored and is gone was evicted, as the log says."""
        day = self.day
        files = {image.id for image in scan(self.paths).images.values()}
        day.seen |= files
        lost = lost_samples(day.promises.kept.keys() | day.seen, files, self.daemon.log.read_text())
        assert not lost, f"stored once, never evicted, and gone: {sorted(lost)[:3]} of {len(lost)}"
        evicted = len((day.promises.kept.keys() | day.seen) - files) + day.stored_again
        logged = sum(map(int, self.logged(r"evicted samples=(\d+)")))
        unlogged = evicted - logged - self.unlogged
        # What nobody had an answer for may have been stored and evicted; and a kill may come between an
        # eviction and its line.
        most = 0 if number == signal.SIGTERM else MOST_EVICTED
        assert -WINDOW <= unlogged <= most, f"{evicted} gone, {logged} logged, {self.unlogged} before"
        self.unlogged += unlogged

    def _versions(self) -> set[str]:
        return {path.name for path in self.paths.models.glob("v*")}

    def open_rounds(self) -> set[str]:
        """Rounds that have begun and not ended."""
        with contextlib.closing(open_reader(self.paths)) as db:
            return {row["id"] for row in db.query("SELECT id FROM rounds WHERE outcome IS NULL")}

    def _wait(self, true: Any, *, pause: float) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, self.daemon.log.read_text()[-4000:]
            # Another process is to come so far: the only way is to look again.
            time.sleep(pause)


def _round_of(version: Path) -> str | None:
    card = json.loads((version / "card.json").read_bytes())
    found: str | None = (card.get("training") or {}).get("round")
    return found
