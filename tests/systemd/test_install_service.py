"""`make install-service` and `make uninstall-service`, in a staging folder."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from staging import PREFIX, REPOSITORY, Stage

from dance_ondevice.daemon.config.load import load
from dance_ondevice.daemon.config.sections import Config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

UNITS = "/etc/systemd/system"
LINK = "/usr/local/bin/dance-ondevice"
INSTALLED = (
    f"{UNITS}/dance-ondevice.service",
    f"{UNITS}/dance-ondevice-camera@.service",
    f"{UNITS}/dance-ondevice-console.service",
    f"{UNITS}/dance-ondevice-fleet.service",
    f"{UNITS}/dance_ondevice.slice",
    "/etc/sysusers.d/dance-ondevice.conf",
    "/etc/tmpfiles.d/dance-ondevice.conf",
    "/etc/udev/rules.d/99-dance-ondevice-rapl.rules",
)


def site_packages(stage: Stage) -> Path:
    return next(stage.path(f"{PREFIX}/lib").glob("python3*/site-packages"))


def test_everything_is_in_place_and_named_for_where_it_will_be(stage: Stage) -> None:
    for name in INSTALLED:
        assert stage.path(name).read_text().strip(), name
    program = stage.path(f"{PREFIX}/bin/dance-ondevice").read_text()
    assert program.splitlines()[0] == f"#!{PREFIX}/bin/python"
    package = site_packages(stage) / "dance_ondevice"
    assert (package / "daemon" / "supervisor.py").is_file()
    assert (package / "policies" / "promotion" / "promotion.py").is_file()
    # Not the source tree's: an upgrade of that must not change a running service.
    assert str(REPOSITORY) not in (package / "__init__.py").resolve().as_posix()
    ran = subprocess.run(
        [str(stage.path(f"{PREFIX}/bin/python")), "-I", "-m", "dance_ondevice", "config", "check"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert "valid" in ran.stdout
    assert load(stage.path("/etc/dance-ondevice/config.toml")).config == Config()
    cameras = stage.path("/etc/dance-ondevice/cameras")
    assert stat.S_IMODE(cameras.stat().st_mode) == 0o700
    assert stat.S_IMODE((cameras / "camera.env.example").stat().st_mode) == 0o600
    assert stage.path(f"{PREFIX}/share/doc/installation.md").is_file()
    assert stage.path(f"{PREFIX}/share/doc/guides/upgrading.md").is_file()
    assert stage.path(f"{PREFIX}/share/doc/examples/tiny_unet.py").is_file()
    assert stage.path(f"{PREFIX}/share/prometheus/alerts.yml").is_file()
    assert stage.path(f"{PREFIX}/share/grafana/dance-ondevice.json").is_file()
    assert stage.path(LINK).readlink() == Path(f"{PREFIX}/bin/dance-ondevice")


def test_what_the_units_start_is_what_is_installed(stage: Stage) -> None:
    for unit in (
        "dance-ondevice.service",
        "dance-ondevice-camera@.service",
        "dance-ondevice-console.service",
        "dance-ondevice-fleet.service",
    ):
        text = stage.path(f"{UNITS}/{unit}").read_text()
        for program in re.findall(r"^Exec\w+=(\S+)", text, re.MULTILINE):
            assert os.access(stage.path(program), os.X_OK), program


def test_again_is_an_upgrade_and_removal_keeps_configuration_and_state(stage: Stage, tmp_path: Path) -> None:
    stage = Stage(shutil.copytree(stage.root, tmp_path / "root", symlinks=True), stage.python)
    config = stage.path("/etc/dance-ondevice/config.toml")
    config.write_text("# ours\n")
    camera = stage.path("/etc/dance-ondevice/cameras/front.env")
    camera.write_text("DANCE_SOURCE=/dev/video0\n")
    sample = stage.path("/var/lib/dance-ondevice/samples/front/a.jpg")
    sample.parent.mkdir(parents=True)
    sample.write_bytes(b"image")
    unit = stage.path(f"{UNITS}/dance-ondevice.service")
    wanted = unit.read_text()
    unit.write_text("# of an older version\n")
    module = site_packages(stage) / "dance_ondevice" / "__init__.py"
    installed, _ = module.read_text(), module.write_text("raise ImportError")

    # A board's own torch, of a version that no pin names.
    own = site_packages(stage) / "torch-2.5.0a0+872d972e41.nv24.8.dist-info"
    own.mkdir()
    (own / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.5.0a0+872d972e41.nv24.8\n")

    done = stage.make("install-service")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "keeps torch 2.5.0a0+872d972e41.nv24.8" in done.stdout
    assert own.is_dir()
    assert unit.read_text() == wanted
    assert module.read_text() == installed
    assert not (REPOSITORY / "build" / "lib").exists()
    assert config.read_text() == "# ours\n"

    removed = [stage.make("uninstall-service") for _ in range(2)]
    assert [done.returncode for done in removed] == [0, 0], removed
    assert [name for name in (*INSTALLED, PREFIX) if stage.path(name).exists()] == []
    assert not stage.path(LINK).is_symlink()
    assert config.read_text() == "# ours\n"
    assert camera.exists()
    assert sample.read_bytes() == b"image"


def test_a_folder_that_is_no_environment_of_ours_is_not_removed(tmp_path: Path) -> None:
    precious = tmp_path / "opt" / "precious"
    precious.mkdir(parents=True)
    done = subprocess.run(
        ["make", "uninstall-service", f"PREFIX={precious}", f"DESTDIR={tmp_path}/stage"],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert precious.is_dir()


def test_what_is_no_link_of_ours_is_neither_replaced_nor_removed(stage: Stage, tmp_path: Path) -> None:
    script = (REPOSITORY / "systemd" / "install.sh").read_text()
    start = script.index("link_command() {")
    function = script[start : script.index("\n}\n", start) + 3]
    link = tmp_path / "bin" / "dance-ondevice"
    call = f'say() {{ echo "$*"; }}\nPREFIX={PREFIX}\nlink={link}\n{function}\nlink_command'

    def run() -> str:
        return subprocess.run(["sh", "-euc", call], capture_output=True, text=True, check=True).stderr

    assert run() == ""
    assert run() == ""
    assert link.readlink() == Path(f"{PREFIX}/bin/dance-ondevice")
    link.unlink()
    link.write_text("mine")
    assert "not touched" in run()
    assert link.read_text() == "mine"


def test_a_prefix_that_is_no_path_or_hidden_from_services_is_refused(tmp_path: Path) -> None:
    for prefix, why in (
        ("opt/x", "absolute path"),
        ("/", "absolute path"),
        ("/home/pi/dance", "does not see"),
        ("/tmp/dance", "does not see"),
        ("/srv/50% more", "letters, digits"),
    ):
        done = subprocess.run(
            ["make", "install-service", f"PREFIX={prefix}", f"DESTDIR={tmp_path}"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert why in done.stderr
        assert list(tmp_path.iterdir()) == []
