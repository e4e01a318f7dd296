"""A folder of real keys."""

from __future__ import annotations

from pathlib import Path

from dance_ondevice.daemon.security.clients import ClientKeys
from dance_ondevice.daemon.security.curve import ClientCurve, ServerCurve
from dance_ondevice.daemon.security.keys import generate, load_pair, load_public


class Keyring:
    """``server`` is what the daemon loads, ``client(name)`` what a client is given."""

    def __init__(self, folder: Path, *clients: str) -> None:
        self.folder = folder
        generate(folder, clients)
        self.server = ServerCurve(load_pair(folder / "server.key_secret"), ClientKeys(folder / "clients"))
        self.server.clients.scan()

    def client(self, name: str) -> ClientCurve:
        return ClientCurve(
            load_pair(self.folder / "clients" / f"{name}.key_secret"), load_public(self.folder / "server.key")
        )

    def public_file(self, name: str) -> Path:
        return self.folder / "clients" / f"{name}.key"
