"""The folder of known clients, as it changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from keyring import Keyring

from dance_ondevice.daemon.ingest.admission import SCAN_EVERY, Admission
from dance_ondevice.daemon.security.clients import ClientKeys
from dance_ondevice.daemon.security.curve import load_server
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


@pytest.mark.parametrize("name", [".#front.key", "aaa.key", "zzz.key"])
def test_a_dangling_link_revokes_nobody(ring: Keyring, name: str) -> None:
    clients = ring.server.clients
    (ring.folder / "clients" / name).symlink_to("root@board.1:2")  # as Emacs does while a file is edited
    assert names(clients) == {"front", "door"}
    (ring.folder / "clients" / name).unlink()
    assert names(clients) == {"front", "door"}
    assert clients.revocations == 0


@pytest.mark.parametrize("nuisance", ["link", "folder", "pipe", "junk", "large", "unreadable name"])
def test_what_lies_beside_the_keys_costs_nobody_but_itself(ring: Keyring, nuisance: str) -> None:
    path = ring.folder / "clients" / ("a b.key" if nuisance == "unreadable name" else "aaa.key")
    if nuisance == "link":
        path.symlink_to(path.name)
    elif nuisance == "folder":
        path.mkdir()
    elif nuisance == "pipe":
        os.mkfifo(path)
    elif nuisance == "large":
        path.write_bytes(ring.public_file("front").read_bytes() + b"#" * 10_000_000)
    elif nuisance == "unreadable name":
        shutil.copy(ring.public_file("front"), path)
    else:
        path.write_text("junk")
    assert names(ring.server.clients) == {"front", "door"}
    assert ring.server.clients.revocations == 0


def test_a_file_that_goes_between_listing_and_stat_revokes_nobody_else(
    ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(ring.folder, ["aaa", "zzz"])
    scandir = os.scandir

    class Listing:
        def __init__(self, path: Path) -> None:
            self.entries = list(scandir(path))

        def __enter__(self) -> list[os.DirEntry[str]]:
            for name in ("aaa", "zzz"):
                ring.public_file(name).unlink(missing_ok=True)
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Listing)
    assert names(ring.server.clients) == {"front", "door"}


def test_a_full_table_of_files_revokes_nobody(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = ring.server.clients
    os.utime(ring.public_file("front"))

    def load(path: Path) -> bytes:
        raise KeysError(f"{path} cannot be read") from OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("dance_ondevice.daemon.security.clients.load_public", load)
        assert names(clients) == {"front", "door"}
    assert names(clients) == {"front", "door"}
    assert clients.faults == {}


def test_one_key_under_two_names_admits_neither_and_names_both(
    ring: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(ring.public_file("front"), ring.public_file("zz"))
    clients = ring.server.clients
    assert names(clients) == {"door"}
    assert "front and zz have the same key" in caplog.text
    caplog.clear()
    assert names(clients) == {"door"}
    assert caplog.text == "", "said once"
    ring.public_file("zz").unlink()
    assert names(clients) == {"front", "door"}


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o664, 0o602])
def test_a_key_that_others_may_write_admits_nobody(
    ring: Keyring, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    ring.public_file("front").chmod(mode)
    assert names(ring.server.clients) == {"door"}
    assert "run: chmod" in caplog.text
    assert set(load_server(str(ring.folder), {}).clients.known.values()) == {"door"}
    ring.public_file("front").chmod(0o644)
    assert names(ring.server.clients) == {"front", "door"}


@pytest.mark.parametrize("folder", ["", "clients"])
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o703])
def test_a_folder_that_others_may_write_to_is_refused_at_the_start_and_later(
    ring: Keyring, folder: str, mode: int
) -> None:
    (ring.folder / folder).chmod(mode)
    with pytest.raises(KeysError, match="may add keys"):
        ring.server.clients.scan()
    assert set(ring.server.clients.known.values()) == {"front", "door"}
    with pytest.raises(KeysError, match="may add keys"):
        load_server(str(ring.folder), {})


@pytest.mark.parametrize("item", ["", "clients", "server.key_secret"])
def test_what_belongs_to_somebody_else_is_refused(ring: Keyring, item: str) -> None:
    others = {os.geteuid() + 1}
    with pytest.raises(KeysError, match=f"belongs to user {os.geteuid()}"):
        load_server(str(ring.folder), {}, others)
    if os.geteuid() == 0:
        os.chown(ring.folder / item, 12345, -1)
        with pytest.raises(KeysError, match="belongs to user 12345"):
            load_server(str(ring.folder), {})


def test_a_key_file_of_somebody_else_admits_nobody(ring: Keyring) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(ring.public_file("front"), 12345, -1)
    assert names(ring.server.clients) == {"door"}


def test_keys_that_cannot_be_read_are_a_line_and_not_one_a_second(
    ring: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    admission = Admission(clients=ring.server.clients, monotonic=lambda: now)
    folder = ring.folder / "clients"
    folder.chmod(0o777)
    for _ in range(300):
        now += SCAN_EVERY
        admission.rescan_keys()
    assert caplog.text.count("client keys not read") == 1
    folder.chmod(0o755)
    now += SCAN_EVERY
    caplog.set_level("INFO")
    assert admission.rescan_keys()
    assert "client keys read again" in caplog.text
