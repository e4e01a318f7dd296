"""The checks of ``dance-ondevice doctor``: one function each, with a remedy for each problem."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.doctor.board import check_clock, check_disk, check_heat
from dance_ondevice.daemon.doctor.descriptors import check_descriptors
from dance_ondevice.daemon.doctor.finding import Check
from dance_ondevice.daemon.doctor.labels import check_labels
from dance_ondevice.daemon.doctor.model import check_model
from dance_ondevice.daemon.doctor.ports import check_ports
from dance_ondevice.daemon.doctor.service import check_keys, check_meter_rights, check_unit
from dance_ondevice.daemon.doctor.stored import check_anchors, check_samples, check_versions
from dance_ondevice.daemon.store.samples import free_files
from dance_ondevice.daemon.store.service import connect_read_only
from dance_ondevice.daemon.system.owner import AS_SERVICE
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.energy.reading import Meter
from dance_ondevice.files import write_synced

#: Slower storage than this, in seconds a flush, delays the answer to every frame.
SLOW_FSYNC = 0.1
#: Fewer files than this that a file system has room for are some minutes of a camera.
FEW_FILES = 1000

_IMPORT_SECONDS = 120
#: Vector extensions without which torch trains several times slower: x86-64 and 64-bit ARM.
_VECTOR_FLAGS = ("avx2", "asimd")
_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
_CONVOLUTION = (
    "w = torch.ones(8, 8, 3, 3, requires_grad=True); "
    "torch.nn.functional.conv2d(torch.ones(1, 8, 16, 16), w).sum().backward(); "
    "print(torch.__version__, torch.backends.cpu.get_cpu_capability())"
)


def run_checks(config: Config, paths: StatePaths, environ: Mapping[str, str]) -> Iterator[Check]:
    """Run all checks, in the order in which their failures would stop a start."""
    sysfs, procfs = Path(config.energy.sysfs_root), Path(config.energy.procfs_root)
    yield check_python()
    yield check_cpu(procfs, bf16=config.training.precision == "bf16" and config.training.device != "cuda")
    # Both directions of a convolution: a build for another processor often fails there and not at its import.
    yield check_import("torch", _CONVOLUTION)
    yield check_import("cv2", "print(cv2.__version__)")
    yield check_zmq(config.security.curve)
    yield check_disk(paths, procfs, sysfs)
    yield check_state_dir(paths)
    yield check_space(paths, config.storage.quota_bytes, config.storage.min_free_bytes)
    yield check_database(paths)
    samples = check_samples(paths)
    if samples is not None:
        yield samples
    versions = check_versions(paths)
    if versions is not None:
        yield versions
    with tempfile.TemporaryDirectory() as cache:
        anchors = check_anchors(config, Path(cache))
    if anchors is not None:
        yield anchors
    yield check_model(config, paths)
    labels = check_labels(paths, config.model.classes)
    if labels is not None:
        yield labels
    yield check_meter(config)
    rights = check_meter_rights(sysfs, os.geteuid())
    if rights is not None:
        yield rights
    yield check_clock(time.time())
    yield check_heat(sysfs, config.energy.max_temperature_c)
    yield from check_ports(config, paths)
    yield check_descriptors(config, paths, procfs)
    yield check_keys(config, environ, paths.root)
    yield check_unit()


def check_python() -> Check:
    """Check that the interpreter is one that torch has builds for."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.maxsize < 2**32:
        return Check("python", "failure", f"{found}, 32-bit", "install a 64-bit system: torch needs one")
    return Check("python", "ok", f"{found} at {sys.executable}")


def check_cpu(procfs: Path, *, bf16: bool = False) -> Check:
    """Check that the processor has the instructions without which training, in ``bf16`` too, is too slow."""
    try:
        text = (procfs / "cpuinfo").read_text(errors="replace")
    except OSError as error:
        return Check("cpu", "warning", f"{procfs / 'cpuinfo'}: {error.strerror}", "set energy.procfs_root")
    flags: set[str] = set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            flags.update(value.split())
    found = [flag for flag in (*_VECTOR_FLAGS, "avx512f", *_BF16_FLAGS) if flag in flags]
    detail = f"{os.cpu_count()} cores, {' '.join(found) or 'no vector extensions that torch profits from'}"
    if not any(flag in flags for flag in _VECTOR_FLAGS):
        return Check("cpu", "warning", detail, "training will be slow; use a 64-bit system image on ARM")
    if bf16 and not flags.intersection(_BF16_FLAGS):
        remedy = 'rounds may take several times the joules: training.precision = "auto" measures both'
        return Check("cpu", "warning", f"{detail}; bf16 is computed by emulation", remedy)
    return Check("cpu", "ok", detail)


def check_import(module: str, then: str) -> Check:
    """Check that a compiled package loads, in a process that a build for another CPU may kill."""
    remedy = f"reinstall {'opencv-python-headless' if module == 'cv2' else module} for this board"
    command = [sys.executable, "-c", f"import {module}; {then}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_IMPORT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Check(module, "failure", f"not loaded within {_IMPORT_SECONDS} s", remedy)
    if done.returncode < 0:
        return Check(module, "failure", *_killed(-done.returncode, remedy))
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["no reason given"]
        return Check(module, "failure", reason[-1], remedy)
    return Check(module, "ok", done.stdout.strip())


def _killed(number: int, remedy: str) -> tuple[str, str]:
    """The meaning of a signal that ended a package, and the remedy."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number != signal.SIGILL:
        return f"killed by {name} at its first use", remedy
    why = f"killed by {name} at its first use: it was built for instructions that this processor lacks"
    if platform.machine() == "aarch64":
        # numpy's OpenBLAS takes some ARM processors for others; every package that loads numpy dies of it.
        remedy += ", or set OPENBLAS_CORETYPE=ARMV8 in the service's environment"
    return why, remedy


def check_zmq(curve_wanted: bool) -> Check:
    """Check that libzmq loads and can encrypt."""
    import zmq

    detail = f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}"
    if zmq.has("curve"):
        return Check("zmq", "ok", f"{detail}, with CURVE")
    remedy = "install a libzmq with libsodium to encrypt sockets"
    return Check("zmq", "failure" if curve_wanted else "warning", f"{detail}, without CURVE", remedy)


def check_state_dir(paths: StatePaths) -> Check:
    """Check that the state folder can be written, and that a flush is quick enough."""
    name = "state folder"
    folder = next(path for path in (paths.root, *paths.root.parents) if path.exists())
    if not folder.is_dir():
        return Check(name, "failure", f"{folder} is not a folder", "choose another --state-dir")
    probe = folder / f".doctor-{secrets.token_hex(4)}"
    started = time.monotonic()
    try:
        write_synced(probe, bytes(4096))
        seconds = time.monotonic() - started
        probe.unlink()
    except OSError as error:
        remedy = f"{AS_SERVICE}, or give that user the folder"
        if error.errno == errno.EROFS:
            remedy = "find why in `dmesg`: a disk with errors is made read-only; then remount it for writing"
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space on its disk"
        return Check(name, "failure", f"{folder}: {error.strerror}", remedy)
    detail = f"{paths.root}, a flush takes {seconds * 1000:.1f} ms"
    if folder != paths.root:
        return Check(name, "ok", f"{detail}; the first start makes it")
    if seconds > SLOW_FSYNC:
        return Check(name, "warning", detail, "every stored frame waits so long; use a faster card or an SSD")
    return Check(name, "ok", detail)


def check_space(paths: StatePaths, quota_bytes: int, min_free_bytes: int) -> Check:
    """Check that the disk has space for the quota."""
    folder = next(path for path in (paths.samples, *paths.samples.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    used = _stored_bytes(paths)
    wanted = max(0, quota_bytes - used) + min_free_bytes
    detail = f"{_gib(free)} free; samples take {_gib(used)} of {_gib(quota_bytes)}"
    if free <= min_free_bytes:
        remedy = (
            f"new samples are refused: free space or lower storage.min_free_bytes ({_gib(min_free_bytes)})"
        )
        return Check("space", "failure", detail, remedy)
    left = free_files(folder)
    if left is not None and left < FEW_FILES:
        remedy = (
            "each image and label is a file: remove other files, lower storage.quota_bytes, or make the file "
            "system anew with more (mkfs.ext4 -i 4096)"
        )
        return Check(
            "space", "warning" if left else "failure", f"{detail}; room for {left} files (df -i)", remedy
        )
    if free < wanted:
        remedy = (
            f"the quota cannot be used up: {_gib(wanted)} would have to be free; lower storage.quota_bytes"
        )
        return Check("space", "warning", detail, remedy)
    return Check("space", "ok", detail)


def check_database(paths: StatePaths) -> Check:
    """Check that the index is sound."""
    if not paths.database.is_file():
        return Check("database", "ok", "none yet; it is made, or rebuilt from the files, at the next start")
    remedy = "stop the daemon and run `dance-ondevice doctor --rebuild-index`; images and labels are kept"
    try:
        connection = connect_read_only(paths.database)
        try:
            found = [str(row[0]) for row in connection.execute("pragma quick_check(3)")]
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Check("database", "failure", f"{paths.database}: {error}", remedy)
    if found != ["ok"]:
        return Check("database", "failure", "; ".join(found), remedy)
    return Check("database", "ok", str(paths.database))


def check_meter(config: Config, sleep: Callable[[float], None] = time.sleep) -> Check:
    """Check where joules come from and how they are measured, and show the watts that the meter reads now.

    Args:
        config: The whole configuration.
        sleep: Waits between the two reads from which a counter's power is computed.
    """
    from dance_ondevice.daemon.energy.meters import choose_meter
    from dance_ondevice.energy.sensors import MeterUnavailable

    name = "energy meter"
    try:
        meter, note = choose_meter(config.energy, lambda: 0.0)
    except MeterUnavailable as error:
        remedy = error.remedy or 'set energy.meter = "auto", or "modelled" with energy.max_watts'
        return Check(name, "failure", str(error), remedy)
    detail = f"{meter.source} ({meter.method}): {meter.about}"
    if meter.method != "modelled":
        seen, fault = _power_now(meter, sleep)
        detail += f"; now {seen}"
        note = "; ".join(filter(None, (note, fault)))
    return Check(name, "warning" if note else "ok", detail, note)


def _power_now(meter: Meter, sleep: Callable[[float], None]) -> tuple[str, str]:
    """The watts that a meter reads, in words, and the remedy if it reads none."""
    meter.read(0.0)
    sleep(meter.period_s)
    reading = meter.read(meter.period_s)
    seen = [f"{domain.domain} {domain.watts:.2f} W" for domain in reading.domains if domain.watts is not None]
    faults = "; ".join(dict.fromkeys(reading.faults.values()))
    if reading.watts and not faults:
        return ", ".join(seen), ""
    why = faults or "its counters stand still"
    return f"no power ({why})", f"all time is unmeasured meanwhile: {why} (docs/boards.md)"


def _stored_bytes(paths: StatePaths) -> int:
    total = 0
    for path in paths.samples.rglob("*"):
        with contextlib.suppress(OSError):  # the daemon may delete it in the meantime
            total += path.stat().st_size if path.is_file() else 0
    return total


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
