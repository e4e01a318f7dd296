"""Senders with keys: what gets through, and what a sender is told when it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ingest_harness import PATIENCE, running
from keyring import Keyring
from sender_harness import frames, send_all, sending, stored_seqs

from dance_ondevice.daemon.cli import main
from dance_ondevice.daemon.ingest.admission import Admission
from dance_ondevice.daemon.security.curve import ClientCurve
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.wire import links
from dance_ondevice.daemon.wire.sender import Pattern


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys", "front")


def guarding(ring: Keyring) -> dict[str, Any]:
    return {"curve": ring.server, "admission": Admission(clients=ring.server.clients)}


@pytest.mark.parametrize("pattern", ["req", "dealer"])
def test_every_frame_arrives_encrypted(
    store: Store, paths: StatePaths, ring: Keyring, pattern: Pattern
) -> None:
    with (
        running(store, **guarding(ring)) as harness,
        sending(harness.endpoint, pattern=pattern, curve=ring.client("front")) as sender,
    ):
        send_all(sender, 5)
        assert (sender.summary().kept, sender.summary().complete) == (5, True)
    assert stored_seqs(paths) == [0, 1, 2, 3, 4]


def test_published_frames_reach_the_daemon_and_nobody_else(
    store: Store, paths: StatePaths, ring: Keyring, tmp_path: Path
) -> None:
    with sending("tcp://127.0.0.1:*", pattern="pub", curve=ring.client("front")) as sender:
        other = Keyring(tmp_path / "other")
        other.public_file("front").write_bytes(ring.public_file("front").read_bytes())
        other.server.clients.scan()
        subscription = {"bind": (), "subscribe": (sender.endpoint,), "publishers": ("front",)}
        with running(store, curve=other.server, **subscription):
            sender.idle(sender._monotonic() + 0.2)
            assert not sender._link.listening, "a daemon with another key hears nothing"
        with running(store, **guarding(ring), **subscription) as harness:
            send_all(sender, 5)
            harness.recorder.wait_for(lambda: harness.recorder.count("kept") == 5)
    assert stored_seqs(paths) == [0, 1, 2, 3, 4]


def complaint(endpoint: str, curve: ClientCurve | None) -> str:
    """What a sender is told, once."""
    said: list[tuple[str, str]] = []

    def on_complaint(where: str, why: str) -> None:
        said.append((where, why))

    with sending(endpoint, curve=curve, patience=0.1, on_complaint=on_complaint) as sender:
        (frame,) = frames(1)
        sender.send(frame, seq=0, captured_at=1.0)
        deadline = sender._monotonic() + PATIENCE
        while not said and sender._monotonic() < deadline:
            sender.idle(sender._monotonic() + 0.1)
        sender.idle(sender._monotonic() + 0.2)
    ((where, why),) = said
    assert where == endpoint
    return why


def test_a_sender_is_told_why_it_does_not_get_in(store: Store, ring: Keyring, tmp_path: Path) -> None:
    other = Keyring(tmp_path / "other", "front")
    with running(store, **guarding(ring)) as harness:
        stranger = ClientCurve(other.client("front").pair, ring.server.pair.public)
        assert "does not know this key" in complaint(harness.endpoint, stranger)
        assert "another key than the server key" in complaint(harness.endpoint, other.client("front"))
        assert "may want a key" in complaint(harness.endpoint, None)
        assert harness.recorder.count() == 0
    with running(store) as harness:
        assert "may use no CURVE" in complaint(harness.endpoint, ring.client("front"))


def test_a_client_that_is_admitted_later_gets_in_by_itself(
    store: Store, paths: StatePaths, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_ASK_AGAIN", 0.05)
    text = ring.public_file("front").read_bytes()
    ring.public_file("front").unlink()
    said: list[str] = []

    def admit(where: str, why: str) -> None:
        said.append(why)
        ring.public_file("front").write_bytes(text)

    with (
        running(store, **guarding(ring)) as harness,
        sending(harness.endpoint, curve=ring.client("front"), patience=0.0, on_complaint=admit) as sender,
    ):
        send_all(sender, 3)
        assert sender.summary().kept == 3
    assert said
    assert stored_seqs(paths) == [0, 1, 2]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["stream", "synthetic:street?size=64x48&frames=3", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


def test_the_command_takes_key_files(store: Store, ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, server = ring.folder / "clients" / "front.key_secret", ring.folder / "server.key"
    with running(store, **guarding(ring)) as harness:
        to = ("--to", harness.endpoint, "--json")
        code, output = run(*to, "--keys", str(secret), "--server-key", str(server))
        assert (code, '"kept": 3' in output) == (0, True)
        monkeypatch.setenv("DANCE_KEYS", str(secret))
        monkeypatch.setenv("DANCE_SERVER_KEY", str(server))
        assert run(*to, "--camera", "other")[0] == 0
    assert harness.recorder.count("kept") == 6


@pytest.mark.parametrize(
    ("spoil", "options", "code", "words"),
    [
        (None, ("--keys",), 2, "go together"),
        (None, ("--server-key",), 2, "go together"),
        (lambda path: path.chmod(0o644), ("--keys", "--server-key"), 1, "chmod 600"),
        (lambda path: path.unlink(), ("--keys", "--server-key"), 1, "no readable CURVE certificate"),
    ],
)
def test_keys_that_cannot_be_used(
    ring: Keyring, spoil: Callable[[Path], None] | None, options: tuple[str, ...], code: int, words: str
) -> None:
    files = {
        "--keys": ring.folder / "clients" / "front.key_secret",
        "--server-key": ring.folder / "server.key",
    }
    if spoil is not None:
        spoil(files["--keys"])
    found, output = run(*(word for option in options for word in (option, str(files[option]))))
    assert found == code
    assert words in output
