from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dance_ondevice.daemon.config.sections import Config, Inference, Ingest, Metrics
from dance_ondevice.daemon.control.instances import DaemonFile, write_daemon_file
from dance_ondevice.daemon.doctor.finding import Check
from dance_ondevice.daemon.doctor.ports import check_ports
from dance_ondevice.daemon.system.state import StatePaths


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    return StatePaths(tmp_path)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def config_of(
    bind: str = "tcp://127.0.0.1:*", publish: str = "tcp://127.0.0.1:*", listen: str = ""
) -> Config:
    return msgspec.structs.replace(
        Config(),
        ingest=Ingest(bind=(bind,)),
        inference=Inference(publish=publish),
        metrics=Metrics(listen=listen, enabled=bool(listen)),
    )


def found(config: Config, paths: StatePaths) -> dict[str, Check]:
    return {check.name: check for check in check_ports(config, paths)}


def test_free_ports(paths: StatePaths) -> None:
    checks = found(config_of(listen="127.0.0.1:0"), paths)
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(
        ("ingest", "masks", "metrics"), "ok"
    )
    assert found(config_of(), paths)["metrics"].detail == "off"
    assert "masks" not in found(
        msgspec.structs.replace(config_of(), inference=Inference(enabled=False)), paths
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "lo", "*"])
def test_a_taken_port_names_the_key_and_how_to_find_who_holds_it(
    paths: StatePaths, taken: int, host: str
) -> None:
    check = found(config_of(bind=f"tcp://{host}:{taken}"), paths)["ingest"]
    assert check.status == "failure"
    assert "ingest.bind" in check.remedy
    assert f":{taken}" in check.remedy


def test_a_port_that_the_running_daemon_holds_is_well(paths: StatePaths, taken: int) -> None:
    address = f"tcp://127.0.0.1:{taken}"
    for config, name, facts in (
        (config_of(bind=address), "ingest", {"ingest": (address,)}),
        (config_of(publish=address), "masks", {"inference": address}),
        (
            config_of(listen=f"127.0.0.1:{taken}"),
            "metrics",
            {"metrics": f"http://127.0.0.1:{taken}/metrics"},
        ),
    ):
        write_daemon_file(paths, DaemonFile(pid=os.getpid(), control="ipc:///x", **facts))
        check = found(config, paths)[name]
        assert check.status == "ok"
        assert "running daemon" in check.detail
        # The file of a daemon that is gone, or of one on another port, explains nothing.
        write_daemon_file(paths, DaemonFile(pid=2**22 + 1, control="ipc:///x", **facts))
        assert found(config, paths)[name].status == "failure"
        write_daemon_file(paths, DaemonFile(pid=os.getpid(), control="ipc:///x", metrics="http://h:1/"))
        assert found(config, paths)[name].status == "failure"


def test_an_address_that_is_not_this_boards(paths: StatePaths) -> None:
    check = found(config_of(bind="tcp://192.0.2.1:5555"), paths)["ingest"]
    assert check.status == "failure"
    assert "no interface" in check.remedy


def test_a_socket_file_needs_a_folder(paths: StatePaths, tmp_path: Path) -> None:
    assert found(config_of(bind=f"ipc://{tmp_path}/in.sock"), paths)["ingest"].status == "ok"
    check = found(config_of(publish=f"ipc://{tmp_path}/gone/out.sock"), paths)["masks"]
    assert check.status == "failure"
    assert "inference.publish" in check.remedy
