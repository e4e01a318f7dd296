"""The sender against real daemons, daemons that come and go, and daemons that misbehave."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from ingest_harness import PATIENCE, header, jpeg, label, running
from sender_harness import frames, send_all, sending, stored_seqs

from dance_ondevice.daemon.commands.stream import progress_of
from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.links import LinkError
from dance_ondevice.daemon.wire.messages import FrameMessage, Header, Reply
from dance_ondevice.daemon.wire.sender import Pattern, stream
from dance_ondevice.daemon.wire.sources import Source, SourceFrame
from dance_ondevice.policies.stream.data_slimming import SlimmingRules

ANSWERED: tuple[Pattern, ...] = ("req", "dealer")


class FakeDaemon(threading.Thread):
    """A ROUTER that answers as a test says: with a reply, a text that is none, or not at all for None.

    Args:
        answer: given the header and how often it came, the reply.
        port: to bind to; 0 for any.
        limit: messages after which it is gone.
    """

    def __init__(
        self,
        answer: Callable[[Header, int], Reply | str | None],
        *,
        port: int = 0,
        limit: int = 1000,
    ) -> None:
        super().__init__(daemon=True)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 1000
        self._socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        self.endpoint = self._socket.last_endpoint.decode()
        self.port = int(self.endpoint.rpartition(":")[2])
        self._answer = answer
        self._limit = limit
        self._over = threading.Event()
        self.seqs: list[int] = []
        self.start()

    def run(self) -> None:
        while not self._over.is_set() and len(self.seqs) < self._limit:
            if not self._socket.poll(20):
                continue
            *envelope, head, _ = self._socket.recv_multipart()
            message = wire.parse([head, b"x"], sections.Ingest())
            assert isinstance(message, FrameMessage)
            self.seqs.append(message.seq)
            reply = self._answer(
                Header(v=1, camera="front", seq=message.seq, captured_at=1.0, encoding="jpeg"),
                self.seqs.count(message.seq),
            )
            if reply is not None:
                self._socket.send_multipart([*envelope, wire.msgspec.json.encode(reply)])
        self._socket.close()
        self._context.term()

    def stop(self) -> None:
        self._over.set()
        self.join(PATIENCE)
        assert not self.is_alive()


def kept(head: Header, times: int = 1) -> Reply:
    return Reply(
        v=1, ok=True, id="x", kept=True, score=0.5, scale=0.5, reason="kept", camera="front", seq=head.seq
    )


def refused(head: Header, code: str, text: str) -> Reply:
    return Reply(v=1, ok=False, error=text, code=code, camera="front", seq=head.seq)


@pytest.mark.parametrize("pattern", ANSWERED)
def test_every_frame_is_answered_and_counted_once(store: Store, paths: StatePaths, pattern: Pattern) -> None:
    with (
        running(store, rules=SlimmingRules(warmup_frames=4)) as harness,
        sending(harness.endpoint, pattern=pattern) as sender,
    ):
        # Frames with a label are always kept; of the others some are dropped.
        both = itertools.chain(frames(20, labelled=True), itertools.islice(frames(40), 20, None))
        stream(Source(frames=both, count=40), sender)

        summary = sender.summary()
        assert (summary.sent, summary.labelled) == (40, 20)
        assert summary.kept + summary.dropped == 40
        assert min(summary.kept, summary.dropped) > 0
        assert (summary.kept, summary.dropped) == (
            harness.recorder.count("kept"),
            harness.recorder.count("dropped"),
        )
        assert sum(summary.scales.values()) == summary.kept
        assert set(summary.scales) <= {"0.5", "0.75", "1"}
        assert (summary.unanswered, summary.resent, summary.errors, summary.complete) == (0, 0, {}, True)
        assert summary.bytes == sum(len(jpeg(n)) for n in range(40)) + 20 * len(label())
    assert len(stored_seqs(paths)) == summary.kept


@pytest.mark.parametrize("pattern", ANSWERED)
def test_daemon_that_restarts_gets_every_frame_once(
    store: Store, paths: StatePaths, pattern: Pattern
) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        harness = first.enter_context(running(store))
        endpoint = harness.endpoint
        sender = stack.enter_context(sending(endpoint, pattern=pattern))
        for number, frame in enumerate(frames(30)):
            sender.send(frame, seq=number, captured_at=1_700_000_000.0 + number)
            if number == 15:
                # Frames are under way while the daemon goes, and the next ones find nobody.
                first.close()
                harness = stack.enter_context(running(store, bind=(endpoint,)))
        sender.finish()

        summary = sender.summary()
        assert (summary.sent, summary.kept, summary.unanswered) == (30, 30, 0)
    assert stored_seqs(paths) == list(range(30))


@pytest.mark.parametrize("pattern", ANSWERED)
def test_frames_that_a_daemon_took_to_its_grave_are_sent_again(pattern: Pattern) -> None:
    window = 1 if pattern == "req" else 4
    dead = FakeDaemon(lambda head, times: None, limit=window)
    with sending(dead.endpoint, pattern=pattern, window=4) as sender:
        for number, frame in enumerate(frames(window)):
            sender.send(frame, seq=number, captured_at=1.0)
        while dead.is_alive():
            sender.idle(sender._monotonic() + 0.01)
        alive = FakeDaemon(kept, port=dead.port)
        sender.finish()

        assert dead.seqs == list(range(window))
        assert alive.seqs == list(range(window))
        summary = sender.summary()
        assert (summary.sent, summary.kept, summary.resent) == (window, window, window)
        alive.stop()


@pytest.mark.parametrize("pattern", ANSWERED)
def test_frame_that_is_not_answered_in_time_is_sent_again(pattern: Pattern) -> None:
    daemon = FakeDaemon(lambda head, times: kept(head) if times > 1 or head.seq != 1 else None)
    with sending(daemon.endpoint, pattern=pattern, answer_timeout=0.1) as sender:
        send_all(sender, 4)

        summary = sender.summary()
        assert (summary.sent, summary.kept, summary.resent) == (4, 4, 1)
        assert sorted(daemon.seqs) == [0, 1, 1, 2, 3]
    daemon.stop()


@pytest.mark.parametrize("pattern", ANSWERED)
def test_frame_that_is_never_answered_is_given_up(pattern: Pattern) -> None:
    daemon = FakeDaemon(lambda head, times: None if head.seq == 1 else kept(head))
    with sending(daemon.endpoint, pattern=pattern, answer_timeout=0.05, max_attempts=3) as sender:
        send_all(sender, 4)

        summary = sender.summary()
        assert (summary.sent, summary.kept, summary.unanswered, summary.resent) == (4, 3, 1, 2)
        assert summary.errors == {"no answer after sending it 3 times": 1}
        assert not summary.complete
        assert daemon.seqs.count(1) == 3
    daemon.stop()


@pytest.mark.parametrize("pattern", ["req", "dealer", "pub"])
def test_a_dead_connection_ends_before_the_attempts_of_its_frames_do(pattern: Pattern) -> None:
    """A pulled cable tells nobody: a frame is given up after five attempts at who seems to listen."""
    endpoint = "tcp://127.0.0.1:*" if pattern == "pub" else "tcp://127.0.0.1:1"
    with sending(endpoint, pattern=pattern) as sender:
        socket = sender._link._socket  # type: ignore[attr-defined]  # each kind of link has one
        attempts_ms = 1000 * sender._max_attempts * sender._answer_timeout
        assert 0 < socket.getsockopt(zmq.TCP_MAXRT) <= attempts_ms / 2
        if pattern != "pub":
            assert 0 < socket.getsockopt(zmq.CONNECT_TIMEOUT) <= attempts_ms / 2


def test_no_more_frames_than_the_window_are_under_way() -> None:
    held: list[Header] = []
    most = 0

    def answer(head: Header, times: int) -> Reply | None:
        # Each group of three is answered together, by a single reply at a time when the third is in.
        nonlocal most
        held.append(head)
        most = max(most, len(held))
        return kept(held.pop(0)) if len(held) == 3 or head.seq >= 9 else None

    daemon = FakeDaemon(answer)
    with sending(daemon.endpoint, window=3) as sender:
        for number, frame in enumerate(frames(9)):
            sender.send(frame, seq=number, captured_at=1.0)
        while sender.summary().kept < 7:
            sender.idle(sender._monotonic() + 0.01)

        assert most == 3
        assert sender.summary().unanswered == 2
    daemon.stop()


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ANSWERED)
def test_monster_costs_its_neighbours_nothing(store: Store, paths: StatePaths, pattern: Pattern) -> None:
    with (
        running(store, max_message_bytes=20_000) as harness,
        sending(harness.endpoint, pattern=pattern) as sender,
    ):
        for number, frame in enumerate(frames(12)):
            size = {3: 41_000, 5: 21_000}.get(number)
            image = frame.image if size is None else bytes(size)
            sender.send(
                SourceFrame(name="", encoding="jpeg", image=image), seq=number, captured_at=1.0 + number
            )
        sender.finish()

        summary = sender.summary()
        # One is so large that ZMQ cuts the connection, one gets an answer.
        assert (summary.kept, summary.unanswered, summary.rejected) == (10, 1, 1)
    assert stored_seqs(paths) == [0, 1, 2, 4, 6, 7, 8, 9, 10, 11]


def test_refusals_are_counted_by_text() -> None:
    texts = {
        0: ("image", "bad image"),
        1: ("image", "bad image"),
        2: ("overflow", "overflow: too slow"),
        3: ("x", "other"),
    }
    daemon = FakeDaemon(
        lambda head, times: refused(head, *texts[head.seq]) if head.seq in texts else kept(head)
    )
    with sending(daemon.endpoint) as sender:
        send_all(sender, 5)

        summary = sender.summary()
        assert (summary.kept, summary.rejected, summary.overflow, summary.unanswered) == (1, 3, 1, 0)
        assert summary.errors == {"bad image": 2, "overflow: too slow": 1, "other": 1}
        assert not summary.complete
    daemon.stop()


def test_footage_waits_for_room_and_a_camera_does_not() -> None:
    refusals = {0: "overflow", 2: "rate"}

    def answer(head: Header, times: int) -> Reply:
        code = refusals.get(head.seq or 0) if times == 1 else None
        return kept(head) if code is None else refused(head, code, f"{code}: no room")

    daemon = FakeDaemon(answer)
    with sending(daemon.endpoint, patient=True, max_attempts=1) as sender:
        send_all(sender, 4)
        summary = sender.summary()
        assert (summary.kept, summary.overflow, summary.rejected, summary.resent) == (4, 0, 0, 2)
        assert summary.complete
    with sending(daemon.endpoint, camera="side") as sender:
        daemon.seqs.clear()
        send_all(sender, 1)
        assert sender.summary().overflow == 1
    daemon.stop()


def test_a_refusal_that_names_no_frame_means_the_newest_that_was_sent() -> None:
    def answer(head: Header, times: int) -> Reply | None:
        # The refusal overtakes the answers to the two frames that are still at work.
        nameless = Reply(v=1, ok=False, error="no header", code="header")
        later = {3: 0, 4: 1}
        if head.seq in later:
            return Reply(v=1, ok=True, id="x", kept=False, camera="front", seq=later[head.seq])
        return nameless if head.seq == 2 else None

    daemon = FakeDaemon(answer)
    with sending(daemon.endpoint, window=3) as sender:
        for number, frame in enumerate(frames(5)):
            sender.send(frame, seq=number, captured_at=1.0)
        while sender.summary().dropped < 2:
            sender.idle(sender._monotonic() + 0.01)

        summary = sender.summary()
        assert (summary.rejected, summary.unanswered, summary.resent) == (1, 2, 0)
        assert daemon.seqs == [0, 1, 2, 3, 4]
    daemon.stop()


def test_list_of_errors_is_bounded() -> None:
    daemon = FakeDaemon(lambda head, times: refused(head, "x", f"error {head.seq}"))
    with sending(daemon.endpoint) as sender:
        send_all(sender, 30)

        errors = sender.summary().errors
        assert len(errors) == 21
        assert errors["other errors"] == 10
    daemon.stop()


def test_stopping_daemon_has_not_answered() -> None:
    daemon = FakeDaemon(lambda head, times: refused(head, "stopping", "later") if times == 1 else kept(head))
    with sending(daemon.endpoint, answer_timeout=0.1) as sender:
        send_all(sender, 3)

        summary = sender.summary()
        assert (summary.kept, summary.rejected, summary.errors) == (3, 0, {})
    daemon.stop()


def test_refusal_without_a_number_is_about_the_oldest_frame() -> None:
    daemon = FakeDaemon(lambda head, times: Reply(v=1, ok=False, error="what?", code="header"))
    with sending(daemon.endpoint) as sender:
        send_all(sender, 3)

        assert sender.summary().rejected == 3
    daemon.stop()


def test_peer_that_speaks_another_language_is_reported() -> None:
    daemon = FakeDaemon(lambda head, times: "OK")
    with sending(daemon.endpoint, answer_timeout=0.05, max_attempts=2) as sender:
        send_all(sender, 1)

        summary = sender.summary()
        assert summary.unanswered == 1
        assert any("the reply is not one of version 1" in text for text in summary.errors)
    daemon.stop()


def test_nobody_listens_is_said_once_and_then_forgotten(store: Store, paths: StatePaths) -> None:
    with running(store) as harness:
        endpoint = harness.endpoint
    said: list[str] = []
    with sending(endpoint, patience=0.0, on_wait=said.append) as sender:
        (frame,) = frames(1)
        sender.send(frame, seq=0, captured_at=1.0)
        for _ in range(5):
            sender.idle(sender._monotonic() + 0.02)
        assert said == [endpoint]
        assert progress_of(sender).endswith(f"s: still waiting: nobody takes frames at {endpoint}")
        assert sender.summary().unanswered == 1

        with running(store, bind=(endpoint,)):
            sender.finish()
            assert sender.summary().kept == 1
            assert progress_of(sender).endswith("1 frames sent, 1 kept")
    assert stored_seqs(paths) == [0]


def test_published_frames_wait_for_a_subscriber_and_all_arrive(store: Store, paths: StatePaths) -> None:
    said: list[str] = []
    with (
        sending("tcp://127.0.0.1:*", pattern="pub", patience=0.0, on_wait=said.append) as sender,
        contextlib.ExitStack() as stack,
    ):
        assert sender.endpoint != "tcp://127.0.0.1:*"
        sender.idle(sender._monotonic() + 0.05)
        assert said == [sender.endpoint]
        harness = stack.enter_context(running(store, bind=(), subscribe=(sender.endpoint,)))
        send_all(sender, 30)
        harness.recorder.wait_for(lambda: harness.recorder.count() == 30)

        summary = sender.summary()
        assert (summary.sent, summary.kept, summary.unanswered, summary.complete) == (30, 0, 0, True)
    assert stored_seqs(paths) == list(range(30))


@pytest.mark.parametrize(
    ("endpoint", "pattern"), [("nonsense", "dealer"), ("nonsense", "req"), ("nonsense", "pub")]
)
def test_malformed_endpoint(endpoint: str, pattern: Pattern) -> None:
    with pytest.raises(LinkError, match=r"nonsense.* tcp://HOST:PORT"), sending(endpoint, pattern=pattern):
        pass


def test_publishing_on_a_taken_address(store: Store) -> None:
    with (
        running(store) as harness,
        pytest.raises(LinkError, match="cannot publish"),
        sending(harness.endpoint, pattern="pub"),
    ):
        pass


def test_header_on_the_wire(store: Store) -> None:
    with running(store) as harness, sending(harness.endpoint) as sender:
        (frame,) = frames(1)
        sender.send(frame, seq=0, captured_at=1_700_000_000.25)
        sender.finish()

        # The very same message from another sender is the same frame.
        assert harness.client().ask(header(seq=0), jpeg(0)).reason == "already stored"
