from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from dance_ondevice.daemon.config.sections import Config, Energy, Storage
from dance_ondevice.daemon.doctor import checks
from dance_ondevice.daemon.doctor.finding import Check
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StateLock, StatePaths


def config_of(**sections: object) -> Config:
    return msgspec.structs.replace(Config(), **sections)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A configuration that a small disk and a busy machine satisfy."""
    path = tmp_path / "site.toml"
    path.write_text(
        "[storage]\nquota_bytes = 1048576\nmin_free_bytes = 0\n"
        "[ingest]\nbind = ['tcp://127.0.0.1:*']\n[inference]\npublish = 'tcp://127.0.0.1:*'\n"
        "[metrics]\nlisten = '127.0.0.1:0'\n[energy]\nidle_watts = 2\nmax_watts = 9\n"
    )
    return path


@pytest.fixture
def fake_checks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(*found: Check) -> None:
        monkeypatch.setattr(checks, "run_checks", lambda config, paths, environ: iter(found))

    return use


@pytest.mark.slow
def test_a_sound_machine_passes(run_json, site: Path, paths: StatePaths):
    found = run_json("doctor", "--config", str(site), "--state-dir", str(paths.root))
    assert {check["name"]: check["status"] for check in found if check["status"] == "failure"} == {}
    names = [
        "python",
        "cpu",
        "torch",
        "cv2",
        "zmq",
        "disk",
        "state folder",
        "space",
        "database",
        "model",
        "energy meter",
        "clock",
        "temperature",
        "ingest",
        "masks",
        "metrics",
        "descriptors",
        "keys",
        "unit",
    ]
    assert [check["name"] for check in found if check["name"] != "meter rights"] == names
    assert [check["name"] for check in found if not check["remedy"] and check["status"] != "ok"] == []


def test_each_line_has_its_remedy_and_a_failure_exits_1(run, run_json, fake_checks, paths: StatePaths):
    args = ("doctor", "--state-dir", str(paths.root))
    fake_checks(Check("a", "ok", "fine"), Check("b", "warning", "odd", "do this"))
    assert run(*args).stdout.splitlines() == ["ok       a: fine", "warning  b: odd", "         do this"]
    fake_checks(Check("c", "failure", "bad", "do that"))
    assert "failure  c: bad" in run(*args, code=1).stdout
    assert run_json(*args, code=1) == [
        {"name": "c", "status": "failure", "detail": "bad", "remedy": "do that"}
    ]


def test_the_index_is_made_anew_from_the_files(
    run, fake_checks, add_street, paths: StatePaths, tmp_path: Path
):
    store = Store(paths, quota_bytes=1 << 30, min_free_bytes=0)
    store.start()
    ids = add_street(store, 2)
    assert store.stop(10)
    paths.database.write_bytes(b"broken")
    fake_checks()
    output = run("doctor", "--rebuild-index", "--state-dir", str(paths.root)).stdout
    assert "2 samples" in output
    connection = sqlite3.connect(paths.database)
    assert {row[0] for row in connection.execute("select id from samples")} == set(ids)
    connection.close()


def test_the_index_of_a_running_daemon_is_left_alone(run, fake_checks, paths: StatePaths):
    fake_checks()
    with StateLock(paths):
        errors = run("doctor", "--rebuild-index", "--state-dir", str(paths.root), code=1).stderr
    assert str(os.getpid()) in errors
    assert not paths.database.exists()


def test_no_state_folder_is_made_by_a_rebuild(run, fake_checks, tmp_path: Path):
    fake_checks()
    run("doctor", "--rebuild-index", "--state-dir", str(tmp_path / "typo"), code=1)
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("flags\t\t: fpu sse2 avx2 avx512f", "ok"),
        ("Features\t: fp asimd bf16", "ok"),
        ("Features\t: half thumb", "warning"),
        ("model name\t: avx2", "warning"),
    ],
)
def test_cpu_flags(tmp_path: Path, line: str, status: str):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert checks.check_cpu(tmp_path).status == status


@pytest.mark.parametrize(
    ("flags", "status"),
    [("avx2", "warning"), ("avx2 avx512f avx512_bf16", "ok"), ("asimd", "warning"), ("asimd bf16", "ok")],
)
def test_bf16_on_a_processor_without_it_is_a_warning(tmp_path: Path, flags: str, status: str):
    (tmp_path / "cpuinfo").write_text(f"flags\t: {flags}\n")
    found = checks.check_cpu(tmp_path, bf16=True)
    assert found.status == status
    assert ("training.precision" in found.remedy) == (status == "warning")
    assert checks.check_cpu(tmp_path).status == "ok"


def test_an_unreadable_procfs_is_a_warning(tmp_path: Path):
    found = checks.check_cpu(tmp_path)
    assert found.status == "warning"
    assert "energy.procfs_root" in found.remedy


@pytest.mark.parametrize(
    ("module", "then", "status", "detail"),
    [
        ("sys", "print('1.2')", "ok", "1.2"),
        ("sys", "raise ImportError('wrong build')", "failure", "ImportError: wrong build"),
        (
            "os",
            "os.kill(os.getpid(), 4)",
            "failure",
            "killed by SIGILL at its first use: it was built for instructions that this processor lacks",
        ),
        ("os", "os.kill(os.getpid(), 11)", "failure", "killed by SIGSEGV at its first use"),
    ],
)
def test_a_package_that_kills_the_process_does_not_kill_the_doctor(
    module: str, then: str, status: str, detail: str
):
    found = checks.check_import(module, then)
    assert (found.status, found.detail) == (status, detail)
    assert bool(found.remedy) == (status == "failure")


@pytest.mark.parametrize(
    ("has", "wanted", "status"), [(True, True, "ok"), (False, False, "warning"), (False, True, "failure")]
)
def test_curve_is_needed_when_configured(
    monkeypatch: pytest.MonkeyPatch, has: bool, wanted: bool, status: str
):
    monkeypatch.setattr("zmq.has", lambda _: has)
    assert checks.check_zmq(wanted).status == status


def test_the_state_folder_is_written_to_and_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "SLOW_FSYNC", 1e9)
    assert checks.check_state_dir(StatePaths(tmp_path)).status == "ok"
    assert "the first start makes it" in checks.check_state_dir(StatePaths(tmp_path / "a" / "b")).detail
    assert list(tmp_path.iterdir()) == []


def test_a_state_folder_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    assert checks.check_state_dir(StatePaths(tmp_path / "file")).status == "failure"

    def refuse(path: Path, data: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checks, "write_synced", refuse)
    found = checks.check_state_dir(StatePaths(tmp_path))
    assert found.status == "failure"
    assert "Permission denied" in found.detail


def test_slow_storage_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "SLOW_FSYNC", 0.0)
    assert checks.check_state_dir(StatePaths(tmp_path)).status == "warning"


@pytest.mark.parametrize(
    ("quota", "floor", "status"), [(1 << 20, 0, "ok"), (1 << 62, 0, "warning"), (1 << 20, 1 << 62, "failure")]
)
def test_space(paths: StatePaths, quota: int, floor: int, status: str):
    storage = Storage(quota_bytes=quota, min_free_bytes=floor)
    assert checks.check_space(paths, storage.quota_bytes, storage.min_free_bytes).status == status


@pytest.mark.parametrize(
    ("left", "status"), [(None, "ok"), (100_000, "ok"), (999, "warning"), (0, "failure")]
)
def test_room_for_files_is_space_too(
    paths: StatePaths, monkeypatch: pytest.MonkeyPatch, left: int | None, status: str
):
    monkeypatch.setattr(checks, "free_files", lambda _: left)
    found = checks.check_space(paths, 0, 0)
    assert found.status == status
    assert ("df -i" in found.detail) == (status != "ok")
    if left == 0:  # and comes before what is but a warning
        assert checks.check_space(paths, 1 << 62, 0).status == "failure"


def test_what_is_stored_counts_against_the_quota(paths: StatePaths, monkeypatch: pytest.MonkeyPatch):
    (paths.samples / "a.jpg").write_bytes(bytes(1000))
    usage = type("Usage", (), {"free": 500})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert checks.check_space(paths, 1500, 0).status == "ok"
    assert checks.check_space(paths, 1501, 0).status == "warning"


def test_the_database(paths: StatePaths):
    assert checks.check_database(paths).status == "ok"
    connection = sqlite3.connect(paths.database)
    connection.execute("create table t (a)")
    connection.commit()
    connection.close()
    assert checks.check_database(paths).status == "ok"
    paths.database.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    found = checks.check_database(paths)
    assert found.status == "failure"
    assert "--rebuild-index" in found.remedy


def test_an_assumed_power_is_a_warning(tmp_path: Path):
    sysfs = str(tmp_path)
    assert checks.check_meter(config_of(energy=Energy(sysfs_root=sysfs))).status == "warning"
    known = config_of(energy=Energy(idle_watts=2, max_watts=9, sysfs_root=sysfs))
    assert checks.check_meter(known).status == "ok"


def put(root: Path, files: dict[str, object]) -> str:
    for path, value in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{value}\n")
    return str(root)


def test_the_watts_that_the_meter_sees_now_are_shown(tmp_path: Path):
    counter = tmp_path / "class/powercap/intel-rapl:0/energy_uj"
    sysfs = put(
        tmp_path,
        {
            "class/hwmon/hwmon1/device/name": "power_meter",
            "class/hwmon/hwmon1/device/power1_average": 0,
            "class/powercap/intel-rapl:0/name": "package-0",
            "class/powercap/intel-rapl:0/energy_uj": 1_000_000,
            "class/powercap/intel-rapl:0/max_energy_range_uj": 262_143_328_850,
        },
    )
    config = config_of(energy=Energy(sysfs_root=sysfs))
    found = checks.check_meter(
        config, lambda seconds: put(tmp_path, {str(counter): int(1e6 + 62e6 * seconds)})
    )
    assert "now package-0 62.00 W" in found.detail
    # What was passed over is told, too.
    assert (found.status, "reads 0 W" in found.remedy) == ("warning", True)
    still = checks.check_meter(config, lambda _: None)
    assert "its counters stand still" in still.remedy


def test_a_chip_with_power_that_is_not_taken_unasked_is_named(tmp_path: Path):
    files = {"class/hwmon/hwmon0/name": "newchip", "class/hwmon/hwmon0/power1_input": 4_000_000}
    config = config_of(energy=Energy(sysfs_root=put(tmp_path, files)))
    remedy = checks.check_meter(config).remedy
    assert 'energy.meter = "hwmon" would take newchip of newchip (4.00 W)' in remedy
    named = config_of(energy=Energy(meter="hwmon", sysfs_root=str(tmp_path)))
    assert "now newchip 4.00 W" in checks.check_meter(named, lambda _: None).detail


def test_a_named_meter_that_is_missing_is_a_failure_with_its_remedy(tmp_path: Path):
    found = checks.check_meter(config_of(energy=Energy(meter="rapl", sysfs_root=str(tmp_path))))
    assert found.status == "failure"
    assert "rapl" in found.detail
    assert found.remedy


@pytest.mark.parametrize(("machine", "hint"), [("aarch64", True), ("x86_64", False)])
def test_the_illegal_instruction_of_arm_boards_has_its_own_remedy(
    monkeypatch: pytest.MonkeyPatch, machine: str, hint: bool
):
    monkeypatch.setattr("platform.machine", lambda: machine)
    found = checks.check_import("os", "os.kill(os.getpid(), 4)")
    assert ("OPENBLAS_CORETYPE=ARMV8" in found.remedy) == hint


@pytest.mark.slow
def test_torch_is_tried_with_a_convolution():
    assert checks.check_import("torch", checks._CONVOLUTION).status == "ok"
