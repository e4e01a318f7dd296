from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dance_ondevice.daemon.config import load as config
from dance_ondevice.daemon.control import instances
from dance_ondevice.daemon.control.instances import AmbiguousInstanceError, DaemonFile
from dance_ondevice.daemon.system.state import StatePaths


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine on which no daemon runs and nothing is configured."""
    monkeypatch.setattr(instances, "SYSTEM_RUNTIME_DIR", tmp_path / "no-run")
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "no-config.toml")
    return {"XDG_RUNTIME_DIR": str(tmp_path / "xdg")}


def register_other(environ: dict[str, str], state_dir: Path) -> subprocess.Popen[str]:
    """Another live process that is registered as a daemon; it ends when its input does."""
    code = (
        "import json, sys\nfrom pathlib import Path\n"
        "from dance_ondevice.daemon.control.instances import register\n"
        "print(register(Path(sys.argv[1]), 'ipc:///x', json.loads(sys.argv[2])), flush=True)\n"
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(state_dir), json.dumps(environ)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip().endswith(f"{process.pid}.json")
    return process


def test_a_registered_daemon_is_found(environ: dict[str, str], tmp_path: Path):
    path = instances.register(tmp_path / "state", "ipc:///c", environ)
    (found,) = instances.running(environ)
    assert found.pid == os.getpid()
    assert found.state_dir == str(tmp_path / "state")
    assert found.control == "ipc:///c"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert instances.locate(None, None, environ) == tmp_path / "state"


def test_a_dead_ones_file_is_removed(environ: dict[str, str], tmp_path: Path):
    process = register_other(environ, tmp_path / "state")
    assert len(instances.running(environ)) == 1
    process.communicate()
    assert instances.running(environ) == []
    assert list((tmp_path / "xdg" / "dance-ondevice").iterdir()) == []


def test_a_pid_used_again_is_not_the_daemon(environ: dict[str, str], tmp_path: Path):
    path = instances.register(tmp_path / "state", "ipc:///c", environ)
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "start_time": content["start_time"] - 1}))
    assert instances.running(environ) == []


def test_a_broken_registration_is_passed_over(environ: dict[str, str], tmp_path: Path):
    path = instances.register(tmp_path / "state", "ipc:///c", environ)
    path.with_name("1.json").write_bytes(b"\xff{")
    assert len(instances.running(environ)) == 1


def test_several_daemons_are_listed(environ: dict[str, str], tmp_path: Path):
    instances.register(tmp_path / "one", "ipc:///c", environ)
    process = register_other(environ, tmp_path / "two")
    try:
        with pytest.raises(AmbiguousInstanceError) as caught:
            instances.locate(None, None, environ)
        for text in (str(tmp_path / "one"), str(tmp_path / "two"), str(process.pid), "--state-dir"):
            assert text in str(caught.value)
        assert instances.locate(None, tmp_path / "two", environ) == tmp_path / "two"
    finally:
        process.communicate()


def test_what_is_given_goes_before_what_runs(environ: dict[str, str], tmp_path: Path):
    instances.register(tmp_path / "running", "ipc:///c", environ)
    site = tmp_path / "site.toml"
    site.write_text("[daemon]\nstate_dir = '/srv/site'\n")
    assert instances.locate(site, None, environ) == Path("/srv/site")
    assert instances.locate(site, Path("/srv/given"), environ) == Path("/srv/given")


def test_with_none_running_the_systems_configuration_counts(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert instances.locate(None, None, environ) == Path("/var/lib/dance-ondevice")
    system = tmp_path / "config.toml"
    system.write_text("[daemon]\nstate_dir = '/srv/system'\n")
    monkeypatch.setattr(config, "DEFAULT_PATH", system)
    assert instances.locate(None, None, environ) == Path("/srv/system")


def test_the_service_managers_folder_is_used(environ: dict[str, str], tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    given = {**environ, "RUNTIME_DIRECTORY": f"{run}:/other"}
    assert instances.register(tmp_path, "ipc:///c", given).parent == run
    assert len(instances.running(given)) == 1


def test_the_systems_folder_is_searched_by_every_user(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    run.mkdir()
    instances.register(tmp_path, "ipc:///c", {"RUNTIME_DIRECTORY": str(run)})
    assert instances.running(environ) == []
    monkeypatch.setattr(instances, "SYSTEM_RUNTIME_DIR", run)
    assert len(instances.running(environ)) == 1


def test_a_foreign_folder_in_the_shared_temporary_one_is_not_trusted(environ: dict[str, str], tmp_path: Path):
    shared = {"TMPDIR": str(tmp_path)}
    taken = tmp_path / f"dance-ondevice-{os.getuid()}"
    taken.mkdir(mode=0o755)
    taken.chmod(0o777)
    with pytest.raises(PermissionError, match="is not private to this user"):
        instances.register(tmp_path, "ipc:///c", shared)
    (taken / "1.json").write_text("{}")
    assert instances.running(shared) == []
    (taken / "1.json").unlink()
    taken.chmod(0o700)
    assert instances.register(tmp_path, "ipc:///c", shared).parent == taken


def test_a_link_in_the_shared_temporary_folder_is_not_followed(environ: dict[str, str], tmp_path: Path):
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (tmp_path / f"dance-ondevice-{os.getuid()}").symlink_to(target)
    with pytest.raises(PermissionError):
        instances.runtime_dir({"TMPDIR": str(tmp_path)})


def test_the_start_time_is_read_past_a_name_with_brackets(tmp_path: Path):
    (tmp_path / "7").mkdir()
    fields = " ".join(map(str, range(4, 53)))
    (tmp_path / "7" / "stat").write_text(f"7 (a ) 1 (b) S {fields}\n")
    assert instances.start_time(7, tmp_path) == 22
    assert instances.start_time(8, tmp_path) is None


def test_the_daemon_file_round_trips(tmp_path: Path):
    paths = StatePaths(tmp_path)
    assert instances.read_daemon_file(paths) is None
    content = DaemonFile(pid=1, control="ipc:///c", ingest=("tcp://127.0.0.1:5555",), metrics="http://x")
    instances.write_daemon_file(paths, content)
    assert instances.read_daemon_file(paths) == content
    paths.daemon_file.write_text('{"pid": 1, "control": "ipc:///c", "state_dir": "/\\u0000"}')
    assert instances.read_daemon_file(paths) is not None  # nobody will answer
    paths.daemon_file.write_bytes(b"half")
    assert instances.read_daemon_file(paths) is None


def test_the_daemon_file_in_a_copy_of_a_folder_names_nobody(tmp_path: Path):
    original, copy = StatePaths(tmp_path / "state"), StatePaths(tmp_path / "copy")
    original.root.mkdir()
    content = DaemonFile(pid=1, control="ipc:///c", state_dir=str(original.root))
    instances.write_daemon_file(original, content)
    shutil.copytree(original.root, copy.root)
    (tmp_path / "link").symlink_to(original.root)
    assert instances.read_daemon_file(copy) is None
    assert instances.read_daemon_file(StatePaths(tmp_path / "link")) == content
    original.root.rename(tmp_path / "moved")  # while its daemon runs: its socket may lie elsewhere
    assert instances.read_daemon_file(StatePaths(tmp_path / "moved")) == content
