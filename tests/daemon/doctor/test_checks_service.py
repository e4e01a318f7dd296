from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dance_ondevice.daemon.config.sections import Config, Inference, Ingest, Security
from dance_ondevice.daemon.doctor.service import Run, check_keys, check_meter_rights, check_unit
from dance_ondevice.daemon.security.keys import generate

WELL = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "Result": "success",
    "NRestarts": "0",
    "NeedDaemonReload": "no",
}


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Asks for the unit's check while systemctl says what is given; returns "status: detail; remedy"."""
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")

    def ask(exposure: str = "1.3", **facts: str) -> str:
        def run(command: Sequence[str]) -> str:
            if command[0] == "systemd-analyze":
                return f"→ Overall exposure level for dance-ondevice.service: {exposure} OK\n"
            return "".join(f"{name}={value}\n" for name, value in {**WELL, **facts}.items())

        check = check_unit(run, tmp_path)
        return f"{check.status}: {check.detail}; {check.remedy}"

    return ask


def test_a_unit_that_is_well(unit: Callable[..., str]) -> None:
    assert unit() == "ok: dance-ondevice.service is active and enabled, exposure 1.3 of 10; "
    assert unit(exposure="nothing that can be read").startswith("ok")


def test_a_unit_that_is_not(unit: Callable[..., str]) -> None:
    assert "make install-service" in unit(LoadState="not-found", ActiveState="inactive", UnitFileState="")
    failed = unit(ActiveState="failed", Result="exit-code", NRestarts="5")
    assert failed.startswith("failure")
    assert "exit-code" in failed
    assert "journalctl" in failed
    assert "systemctl enable" in unit(UnitFileState="disabled")
    assert "daemon-reload" in unit(NeedDaemonReload="yes")
    exposed = unit(exposure="6.1")
    assert exposed.startswith("warning")
    assert "6.1" in exposed


def test_a_unit_that_cannot_be_asked_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)

    def refuse(command: Sequence[str]) -> str:
        raise OSError("systemctl: Failed to connect to bus")

    assert check_unit(refuse, tmp_path).status == "warning"
    assert check_unit(refuse, tmp_path / "no systemd").status == "ok"

    def only_systemctl(command: Sequence[str]) -> str:
        if command[0] != "systemctl":
            raise FileNotFoundError(command[0])
        return "".join(f"{name}={value}\n" for name, value in WELL.items())

    run: Run = only_systemctl
    assert check_unit(run, tmp_path).status == "ok"


def config_of(bind: str = "tcp://127.0.0.1:1", **security: Any) -> Config:
    return msgspec.structs.replace(
        Config(),
        ingest=Ingest(bind=(bind,)),
        inference=Inference(enabled=False),
        security=Security(**security),
    )


def test_without_curve_only_what_leaves_the_board_matters() -> None:
    assert check_keys(config_of(), {}).status == "ok"
    assert check_keys(config_of("ipc:///run/x"), {}).status == "ok"
    open_to_all = check_keys(config_of("tcp://0.0.0.0:5555", allow_plain_remote=True), {})
    assert open_to_all.status == "warning"
    assert "keys generate" in open_to_all.remedy


def test_keys(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    config = config_of(curve=True, keys_dir=str(folder))
    assert check_keys(config, {}).status == "failure"
    generate(folder, ["front"])
    left = check_keys(config, {})
    assert left.status == "warning"
    assert "front.key_secret" in left.remedy
    (folder / "clients" / "front.key_secret").unlink()
    assert (check_keys(config, {}).status, check_keys(config, {}).detail[-14:]) == ("ok", "1 client known")
    (folder / "clients" / "front.key").unlink()
    assert "keys generate --client" in check_keys(config, {}).remedy
    (folder / "server.key_secret").chmod(0o644)
    readable = check_keys(config, {})
    assert readable.status == "failure"
    assert "server.key_secret" in readable.detail


def test_keys_that_systemd_hands_over(tmp_path: Path) -> None:
    config = config_of(curve=True)
    assert check_keys(config, {}).status == "warning"
    assert check_keys(config, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).status == "failure"


def test_the_service_may_read_what_root_can(tmp_path: Path) -> None:
    counter = tmp_path / "class" / "powercap" / "intel-rapl:0" / "energy_uj"
    assert check_meter_rights(tmp_path, 0) is None
    counter.parent.mkdir(parents=True)
    counter.write_text("1\n")
    group = counter.stat().st_gid
    for mode, number, status in ((0o400, group, "warning"), (0o440, None, "warning"), (0o440, group, "ok")):
        counter.chmod(mode)
        check = check_meter_rights(tmp_path, 0, lambda name, number=number: number)
        assert check is not None
        assert check.status == status
    assert check_meter_rights(tmp_path, 1000) is None
