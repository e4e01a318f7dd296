"""A machine that really boots systemd: this one's files under an overlay, in namespaces of its own.

It needs root and a kernel with overlayfs and cgroup 2, and nothing else: no image, no network, no container
tools. What it writes is gone when it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType

#: Where the packages of the environment that runs the tests are seen inside.
DEPENDENCIES = "/opt/packages-of-tests"

_SYSTEMD = "/lib/systemd/systemd"
_TOOLS = ("unshare", "nsenter", "systemctl", "pivot_root", "mount")
_ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")

# Services of a real machine's start that would reach beyond the namespaces, or wait for hardware.
_MASKED = (
    "systemd-sysctl",
    "systemd-modules-load",
    "systemd-remount-fs",
    "systemd-update-utmp",
    "systemd-random-seed",
)

_BOOT = """
set -eu
work=$1 stage=$2 packages=$3
root=$work/root
mount --make-rprivate /
mkdir -p "$root" "$work/layer"
mount -t tmpfs tmpfs "$work/layer"
mkdir "$work/layer/upper" "$work/layer/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/layer/upper,workdir=$work/layer/work" "$root"
cp -a "$stage/." "$root/"
mkdir -p "$root{dependencies}" "$root/old"
mount --bind "$packages" "$root{dependencies}"
for unit in {masked}; do ln -sf /dev/null "$root/etc/systemd/system/$unit.service"; done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for folder in run tmp var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"; done
chmod 755 "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
cd "$root"
pivot_root . old
cd /
umount -l /old
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    {systemd} --system --unit=basic.target --log-target=journal
""".format(dependencies=DEPENDENCIES, masked=" ".join(_MASKED), systemd=_SYSTEMD)


def unfit() -> str:
    """Why no machine can be booted here; empty when one can."""
    if os.geteuid() != 0:
        return "booting systemd in namespaces needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing or not Path(_SYSTEMD).exists():
        return f"systemd and util-linux are not installed ({', '.join(missing) or _SYSTEMD})"
    if _cgroup2() is None:
        return "no cgroup 2 is mounted"
    probe = "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/r && mount -t overlay overlay "
    probe += "-o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w /mnt/r && mount -t cgroup2 cgroup2 /mnt/w"
    done = subprocess.run(
        [
            *("unshare", "--mount", "--pid", "--fork", "--net", "--cgroup", "--ipc", "--uts"),
            "sh",
            "-c",
            probe,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return (
        f"this kernel or container does not let namespaces mount: {done.stderr.strip()}"
        if done.returncode
        else ""
    )


class Machine:
    """Boots on entry and is gone on exit."""

    def __init__(self, stage: Path, packages: Path, work: Path) -> None:
        self._arguments = [str(work), str(stage), str(packages)]
        self._group = Path(str(_cgroup2())) / f"dance-ondevice-test-{os.getpid()}"
        work.mkdir()
        self._log = work / "boot.log"
        self._outer: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Machine:
        self._group.mkdir(exist_ok=True)
        # The group is entered before its namespace is made: it is then the root that the machine sees.
        command = f'echo $$ >{self._group}/cgroup.procs; exec unshare --kill-child "$@"'
        namespaces = ["--mount", "--pid", "--fork", "--net", "--cgroup", "--ipc", "--uts"]
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(
                ["sh", "-c", command, "sh", *namespaces, "sh", "-c", _BOOT, "boot", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, *command: str, ok: bool = True) -> str:
        """Run a command inside, as root; returns what it printed, errors included."""
        done = subprocess.run(
            [
                *("nsenter", "--all", f"--target={self._init}", f"--root=/proc/{self._init}/root"),
                *(f"--wd=/proc/{self._init}/root", *_ENVIRONMENT, *command),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        assert not ok or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        Path(f"/proc/{self._init}/root{path}").write_text(text)

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        shown = self.run("systemctl", "show", unit, *(f"--property={name}" for name in names))
        return dict(line.split("=", maxsplit=1) for line in shown.splitlines() if "=" in line)

    def journal(self, unit: str) -> str:
        """What a unit and systemd said of it."""
        return self.run("journalctl", "--no-pager", "--unit", unit)

    def _wait(self) -> None:
        assert self._outer is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self._outer.poll() is None, self._log.read_text()
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            if children:
                self._init = int(children[0])
                # Before the switch of roots nsenter finds this machine's own systemctl, which has no manager.
                if Path(f"/proc/{self._init}/comm").read_text().strip() == "systemd":
                    state = self.run("systemctl", "is-system-running", "--wait", ok=False).strip()
                    if state in ("running", "degraded"):
                        return
            # Another process boots: the only way is to look again.
            time.sleep(0.1)
        raise AssertionError(f"no boot within a minute\n{self._log.read_text()}")

    def _end(self) -> None:
        if self._outer is not None:
            # --kill-child: the machine's first process goes with it, and all others with that.
            self._outer.kill()
            self._outer.wait()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                for folder in sorted(self._group.rglob("*/"), reverse=True):
                    if folder.is_dir():
                        folder.rmdir()
                self._group.rmdir()
            except OSError:  # the last process is still on its way out
                time.sleep(0.1)
            else:
                return


def _cgroup2() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None
