"""The folder of known clients, as it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from keyring import Keyring

from dance_ondevice.daemon.security.clients import ClientKeys
from dance_ondevice.daemon.security.keys import KeysError, generate


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys", "front", "door")


def names(clients: ClientKeys) -> set[str]:
    return set(clients.scan().values())


def test_a_file_admits_and_its_removal_revokes(ring: Keyring) -> None:
    clients = ring.server.clients
    front = ring.client("front").pair.public.decode()
    assert clients.known == {front: "front", ring.client("door").pair.public.decode(): "door"}
    assert (clients.name_of(front), clients.key_of("front"), clients.revocations) == ("front", front, 0)

    ring.public_file("front").unlink()

    assert clients.key_of("front") == front, "known as of the last look"
    assert clients.name_of(front) is None
    assert (clients.key_of("front"), clients.revocations) == (None, 1)
    generate(ring.folder, ["side"])
    assert names(clients) == {"door", "side"}
    assert clients.revocations == 1


def test_another_key_under_the_same_name_revokes_the_first(ring: Keyring) -> None:
    clients = ring.server.clients
    front, door = (ring.client(name).pair.public.decode() for name in ("front", "door"))
    ring.public_file("door").replace(ring.public_file("front"))
    assert clients.scan() == {door: "front"}
    assert clients.name_of(front) is None
    assert clients.revocations == 1


def test_what_is_no_certificate_admits_nobody_and_keeps_nobody_out(
    ring: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    ring.public_file("broken").write_text("junk")
    (ring.folder / "clients" / "notes.txt").write_text("hello")
    assert names(ring.server.clients) == {"front", "door"}
    assert "broken.key" in caplog.text
    caplog.clear()
    names(ring.server.clients)
    assert caplog.text == "", "said once, not at each look"


def test_without_the_folder_nobody_is_known(ring: Keyring) -> None:
    (ring.folder / "clients").rename(ring.folder / "elsewhere")
    assert names(ring.server.clients) == set()
    assert ring.server.clients.revocations == 1


def test_a_folder_that_cannot_be_read_now_changes_nothing(
    ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: Path) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OSError, match="Too many"):
        ring.server.clients.scan()
    assert set(ring.server.clients.known.values()) == {"front", "door"}
    monkeypatch.undo()
    (ring.folder / "clients").chmod(0o777)
    with pytest.raises(KeysError, match="anybody may add keys"):
        ring.server.clients.scan()
