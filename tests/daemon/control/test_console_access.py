from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from dance_ondevice.daemon.control import server
from dance_ondevice.daemon.control.console_access import (
    SOCKET_VARIABLE,
    TokenError,
    ensure_token,
    read_token,
    shared_socket,
    token_for_daemon,
)
from dance_ondevice.daemon.control.server import endpoint_in
from dance_ondevice.daemon.system.state import StatePaths


def test_a_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "state")
    assert read_token(paths) is None
    token = ensure_token(paths)
    assert len(token) >= 32
    assert ensure_token(paths) == read_token(paths) == token
    assert paths.console_token.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in paths.root.iterdir()] == ["console.token"]


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EIO])
def test_a_file_system_without_links_and_sockets_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    """FAT and exFAT, on a USB stick; exFAT by FUSE makes a file and fails then."""

    class NoSocket(socket.socket):
        def bind(self, address: Any) -> None:
            Path(address).touch()
            raise OSError(refusal, os.strerror(refusal))

    def no_link(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    paths, runtime = StatePaths(tmp_path / "state"), {"RUNTIME_DIRECTORY": "/run/somewhere"}
    monkeypatch.setattr(os, "link", no_link)
    assert ensure_token(paths) == read_token(paths)
    assert [path.name for path in paths.root.iterdir()] == ["console.token"]
    assert endpoint_in(paths, "control.sock", runtime) == f"ipc://{paths.root}/control.sock"
    assert [path.name for path in paths.root.iterdir()] == ["console.token"]
    monkeypatch.setattr(server.socket, "socket", NoSocket)
    endpoint = endpoint_in(paths, "control.sock", runtime)
    assert endpoint.startswith("ipc:///run/somewhere/")
    assert endpoint != endpoint_in(paths, "console.sock", runtime)
    assert [path.name for path in paths.root.iterdir()] == ["console.token"]


def test_a_damaged_token_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path)
    for content in (b"", b"short\n", b"\xff" * 40, b"with blanks and many more letters"):
        paths.console_token.write_bytes(content)
        with pytest.raises(TokenError):
            ensure_token(paths)
        # The daemon goes on: frames need no console.
        assert len(token_for_daemon(paths)) >= 32
        assert paths.console_token.read_bytes() == content


def test_both_units_name_the_socket_between_them() -> None:
    assert shared_socket({}) is None
    assert shared_socket({SOCKET_VARIABLE: "/run/dance-console/console.sock"}) == Path(
        "/run/dance-console/console.sock"
    )
