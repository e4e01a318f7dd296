"""docs/security.md: its examples run as they stand, its settings are valid, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from ingest_harness import jpeg, running
from keyring import Keyring

from dance_ondevice.daemon.config.load import load
from dance_ondevice.daemon.ingest.admission import Admission
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.wire.messages import Reason

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "security.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", [0, 1])
def test_a_sender_of_the_page_gets_in(store: Store, tmp_path: Path, number: int) -> None:
    ring = Keyring(tmp_path / "keys", "front")
    for path in (ring.folder / "server.key", ring.folder / "clients" / "front.key_secret"):
        path.rename(tmp_path / path.name)
    (tmp_path / "frame.jpg").write_bytes(jpeg())
    admission = Admission(clients=ring.server.clients, bind_cameras=True)
    with running(store, curve=ring.server, admission=admission) as harness:
        code = blocks("python")[number].replace("tcp://127.0.0.1:5555", harness.endpoint)
        assert harness.endpoint in code
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert harness.recorder.frames == {("front", "kept"): 1}
    assert ("'kept': True", "b'OK'")[number] in done.stdout


def test_the_settings_of_the_page_are_valid(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    for number, text in enumerate(blocks("toml")):
        site = tmp_path / f"{number}.toml"
        site.write_text(text.replace("/etc/dance-ondevice/keys", str(tmp_path / "keys")))
        assert load(site).config.security.curve


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    assert all((DOCS / link).exists() for link in links)


def test_every_reason_of_a_refusal_is_documented() -> None:
    table = re.findall(r"^\| `(\w+)` \|", (DOCS / "protocol.md").read_text(), re.MULTILINE)
    assert set(typing.get_args(Reason)) <= set(table)
