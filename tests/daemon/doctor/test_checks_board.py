from __future__ import annotations

from pathlib import Path

import pytest

from dance_ondevice.daemon.doctor.board import check_clock, check_disk, check_heat
from dance_ondevice.daemon.system.state import StatePaths

NOW = 1_790_000_000.0


def mount(root: Path, kind: str, source: str = "/dev/sda1", device: str = "8:1") -> Path:
    """A procfs whose mounts are / and, on top of it, ``root``."""
    procfs = root / "proc"
    (procfs / "self").mkdir(parents=True)
    point = str(root).replace(" ", "\\040")
    (procfs / "self" / "mountinfo").write_text(
        "22 1 0:1 / / rw - overlay overlay rw\n"
        f"30 22 {device} / {point} rw,noatime shared:1 - {kind} {source} rw\n"
        f"31 22 9:9 / {point}-not-this-one rw - tmpfs tmpfs rw\n"
        "broken\n"
    )
    return procfs


def block(sysfs: Path, device: str, disk: str, rotational: str) -> None:
    partition = sysfs / "devices" / disk / f"{disk}p1"
    partition.mkdir(parents=True)
    (sysfs / "devices" / disk / "queue").mkdir()
    (sysfs / "devices" / disk / "queue" / "rotational").write_text(f"{rotational}\n")
    link = sysfs / "dev" / "block" / device
    link.parent.mkdir(parents=True)
    link.symlink_to(partition)


@pytest.mark.parametrize(
    ("disk", "rotational", "said"),
    [
        ("mmcblk0", "0", "ext4 on an SD card or eMMC (mmcblk0)"),
        ("nvme0n1", "0", "ext4 on a solid-state disk (nvme0n1)"),
        ("sda", "1", "ext4 on a hard disk (sda)"),
    ],
)
def test_a_disk_of_the_board(tmp_path: Path, disk: str, rotational: str, said: str) -> None:
    root = tmp_path / "a board"
    procfs, sysfs = mount(root, "ext4"), root / "sys"
    block(sysfs, "8:1", disk, rotational)
    found = check_disk(StatePaths(root / "state" / "not" / "yet"), procfs, sysfs)
    assert (found.status, found.remedy) == ("ok", "")
    assert said in found.detail


@pytest.mark.parametrize(
    ("kind", "status"),
    [("nfs4", "failure"), ("cifs", "failure"), ("tmpfs", "warning"), ("vfat", "warning"), ("btrfs", "ok")],
)
def test_what_a_file_system_promises(tmp_path: Path, kind: str, status: str) -> None:
    found = check_disk(StatePaths(tmp_path), mount(tmp_path, kind), tmp_path / "sys")
    assert found.status == status
    assert kind in found.detail
    assert ("daemon.state_dir" in found.remedy) == (status != "ok")


def test_without_procfs_the_disk_is_unknown(tmp_path: Path) -> None:
    found = check_disk(StatePaths(tmp_path), tmp_path / "none", tmp_path)
    assert found.status == "warning"
    assert "energy.procfs_root" in found.remedy


def refuse() -> int:
    raise PermissionError(1, "Operation not permitted")


def test_the_clock() -> None:
    assert check_clock(NOW, lambda: 0).status == "ok"
    assert check_clock(NOW, lambda: 1).status == "ok"  # a leap second is announced
    assert check_clock(NOW, lambda: 5).status == "warning"
    assert check_clock(NOW, refuse).status == "warning"
    never_set = check_clock(1000.0, lambda: 0)
    assert never_set.status == "failure"
    assert "set-ntp" in never_set.remedy


def test_the_kernel_tells_of_its_clock() -> None:
    assert check_clock(NOW).status in ("ok", "warning")


def zone(sysfs: Path, millidegrees: int) -> None:
    folder = sysfs / "class" / "thermal" / "thermal_zone0"
    folder.mkdir(parents=True)
    (folder / "temp").write_text(f"{millidegrees}\n")


def test_heat(tmp_path: Path) -> None:
    assert check_heat(tmp_path, 80.0).detail == "no sensor"
    zone(tmp_path, 61_500)
    assert check_heat(tmp_path, 80.0).status == "ok"
    found = check_heat(tmp_path, 60.0)
    assert found.status == "warning"
    assert "energy.max_temperature_c" in found.remedy


def test_a_throttled_board(tmp_path: Path) -> None:
    firmware = tmp_path / "devices" / "platform" / "soc" / "soc:firmware"
    firmware.mkdir(parents=True)
    (firmware / "get_throttled").write_text("50005\n")
    found = check_heat(tmp_path, 80.0)
    assert found.status == "warning"
    assert "voltage is too low" in found.detail
    assert "throttles" in found.detail
    assert "supply" in found.remedy
