"""``dance-ondevice keys``."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq.auth


def test_generate_server_and_clients(run_json: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    told = run_json("keys", "generate", "--dir", str(folder), "--client", "front", "--client", "door")

    assert told["dir"] == str(folder)
    assert [one["name"] for one in told["certificates"]] == ["server", "front", "door"]
    for one in told["certificates"]:
        public, secret = zmq.auth.load_certificate(one["secret"])
        assert one["key"] == public.decode()
        assert secret.decode() not in str(told)
        assert stat.S_IMODE(Path(one["secret"]).stat().st_mode) == 0o600
        assert zmq.auth.load_certificate(one["public"])[0] == public


def test_a_table_for_people_and_a_refusal_to_overwrite(run: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    assert "server" in run("keys", "generate", "--dir", str(folder)).stdout
    added = run("keys", "generate", "--dir", str(folder), "--client", "front").stdout
    assert "front" in added
    assert (folder / "clients").is_dir()
    assert "client's machine" in added
    before = (folder / "server.key_secret").read_bytes()
    assert "--client" in run("keys", "generate", "--dir", str(folder), code=1).stderr
    assert (
        "never overwritten"
        in run("keys", "generate", "--dir", str(folder), "--client", "front", code=1).stderr
    )
    assert "client name" in run("keys", "generate", "--dir", str(folder), "--client", "../x", code=1).stderr
    assert (folder / "server.key_secret").read_bytes() == before
