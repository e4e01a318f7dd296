"""Certificates on disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import zmq
import zmq.auth

from dance_ondevice.daemon.security.curve import load_server
from dance_ondevice.daemon.security.keys import (
    KeyPair,
    KeysError,
    generate,
    is_credential,
    load_pair,
    load_public,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "keys"


@pytest.fixture(autouse=True)
def careless_umask() -> None:
    """Modes must not depend on the user's umask."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_public_keys_can_be_read_whatever_the_users_own_habit_is(folder: Path) -> None:
    os.umask(0o077)  # put back by the fixture
    for one in generate(folder, ["front"]):
        assert (mode(one.public), mode(one.secret)) == (0o644, 0o600)


def test_certificates_are_those_of_zmq_auth_and_secret_ones_are_private(folder: Path) -> None:
    server, front = generate(folder, ["front"])

    assert (server.public, server.secret) == (folder / "server.key", folder / "server.key_secret")
    assert front.public == folder / "clients" / "front.key"
    assert mode(folder) == mode(folder / "clients") == 0o700
    for one in (server, front):
        assert (mode(one.public), mode(one.secret)) == (0o644, 0o600)
        public, secret = zmq.auth.load_certificate(one.secret)
        assert zmq.auth.load_certificate(one.public) == (public, None)
        assert public.decode() == one.key
        assert zmq.curve_public(secret) == public
        assert load_pair(one.secret) == KeyPair(public, secret)
        assert load_public(one.public) == public
        assert secret.decode() not in repr(load_pair(one.secret))
    assert server.key != front.key


def test_clients_are_added_and_nothing_is_ever_overwritten(folder: Path) -> None:
    generate(folder, ["front"])
    before = {path: path.read_bytes() for path in folder.rglob("*.key*")}

    (door,) = generate(folder, ["door"])
    assert door.name == "door"
    for again in ([], ["side", "front"], ["front"]):
        with pytest.raises(KeysError, match="first"):
            generate(folder, again)
    # A revoked client's secret file is still somebody's secret.
    door.public.unlink()
    with pytest.raises(KeysError, match=r"door\.key_secret"):
        generate(folder, ["door"])

    assert {path: path.read_bytes() for path in before} == before
    assert not list(folder.rglob("side*"))


@pytest.mark.parametrize("names", [["../x"], [""], ["a/b"], [".hidden"], ["a", "a"], ["x" * 65]])
def test_names_that_cannot_be(folder: Path, names: list[str]) -> None:
    with pytest.raises(KeysError):
        generate(folder, names)
    assert not folder.exists()


def test_a_folder_that_everybody_writes_to_is_refused(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(KeysError, match="chmod o-w"):
        generate(folder, [])
    assert [path.name for path in folder.rglob("*.key*")] == []


def test_what_was_begun_is_taken_back_when_the_disk_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 3

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeysError, match="No space left"):
        generate(folder, ["front"])
    monkeypatch.undo()
    assert len(generate(folder, ["front"])) == 2


def test_a_secret_that_others_may_read_is_refused(folder: Path) -> None:
    (server,) = generate(folder, [])
    server.secret.chmod(0o640)
    with pytest.raises(KeysError, match=f"0640.*chmod 600 {server.secret}"):
        load_pair(server.secret)
    assert load_pair(server.secret, private=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\n",  # the key alone
        'curve\n    public-key = "short"\n',
        'curve\n    public-key = "' + "\\" * 40 + '"\n',
        'curve\n    public-key = "' + "#" * 40 + '"\n',
        'curve\n    public-key = "' + "é" * 40 + '"\n',
    ],
)
def test_what_is_no_certificate(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.key"
    path.write_text(text)
    with pytest.raises(KeysError, match=r'x\.key .*expected the line public-key = "\.\.\."'):
        load_public(path)
    with pytest.raises(KeysError, match="nowhere"):
        load_public(tmp_path / "nowhere")


def test_halves_of_different_pairs(folder: Path) -> None:
    server, front = generate(folder, ["front"])
    mixed = server.secret.read_text().replace(server.key, front.key)
    server.secret.write_text(mixed)
    with pytest.raises(KeysError, match="not that of its secret key"):
        load_pair(server.secret)
    with pytest.raises(KeysError, match="key_secret"):
        load_pair(front.public, private=False)


def test_the_daemons_keys_come_from_the_folder_or_from_systemd(folder: Path, tmp_path: Path) -> None:
    server, front = generate(folder, ["front"])
    here = load_server(str(folder), {})
    assert here.pair.public.decode() == server.key
    assert dict(here.clients.known) == {front.key: "front"}

    credentials = tmp_path / "credentials"
    credentials.mkdir(0o700)
    with pytest.raises(KeysError, match="keys generate"):
        load_server("", {"CREDENTIALS_DIRECTORY": str(credentials)})
    with pytest.raises(KeysError, match="keys generate"):
        load_server("", {})
    server.secret.rename(credentials / "server.key_secret")
    (credentials / "server.key_secret").chmod(0o440)
    with pytest.raises(KeysError, match=r"server\.key_secret is not there"):
        load_server(str(folder), {})
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert load_server(str(folder), environ).clients.known == here.clients.known
    # LoadCredential=clients:FOLDER makes one credential of each file.
    assert dict(load_server("", environ).clients.known) == {}
    (credentials / "clients_front.key").write_bytes(front.public.read_bytes())
    assert dict(load_server("", environ).clients.known) == {front.key: "front"}
    assert is_credential(credentials / "server.key_secret", environ)
    assert not is_credential(front.secret, environ)
    assert not is_credential(front.secret, {})


def test_without_curve_in_libzmq_nothing_is_pretended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(folder, [])
    monkeypatch.setattr("zmq.has", lambda _: False)
    with pytest.raises(KeysError, match="without CURVE"):
        load_server(str(folder), {})
