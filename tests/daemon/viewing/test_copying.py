"""A backup for a download: made by the real command, handed out in pieces, and removed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.viewing import copying
from dance_ondevice.daemon.viewing.checkup import options_of
from dance_ondevice.daemon.viewing.copying import Copying, CopyRefused


@pytest.mark.slow
def test_it_is_made_handed_out_in_pieces_and_removed(
    paths: StatePaths, store: Store, add_street: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "PIECE", 3000)
    add_street(store, 3)
    backup = Copying(paths.root, options_of(None, paths.root), lambda: 1000)
    with pytest.raises(CopyRefused, match="no room"):
        backup.start(1001)
    with pytest.raises(CopyRefused, match="begin another"):
        backup.piece(0)
    assert backup.start(1000)["running"]
    assert backup._process is not None
    backup._process.wait(60)
    ready = backup.report()
    assert (ready["running"], ready["error"]) == (False, "")
    data = b""
    while piece := backup.piece(len(data)):
        assert len(piece) <= 3000
        data += piece
    assert len(data) == ready["bytes"] > 3000
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert sum(name.endswith(".jpg") for name in tar.getnames()) == 3
    backup.close()
    assert backup.report() == {"running": False, "bytes": None, "error": ""}
    assert not (paths.root / ".backup").exists()


@pytest.mark.slow
def test_what_goes_wrong_is_told_and_what_a_killed_daemon_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".backup").mkdir()
    (tmp_path / ".backup" / "state.tar").write_bytes(b"old")
    backup = Copying(tmp_path, options_of(None, tmp_path), lambda: 1000)
    assert backup.report()["bytes"] is None
    backup.start(0)
    assert backup._process is not None
    backup._process.wait(60)
    assert "no backup was made" in backup.report()["error"]
    backup.close()
