"""The whole daemon under load while its disk, index or clock fails, and what is on the disk afterwards."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_process import Daemon
from figures import Figures
from senders import Load, Promises, audit, lost_samples

from dance_ondevice.benchmarks.robustness.report import Disk
from dance_ondevice.daemon.store.scan import scan
from dance_ondevice.daemon.system.state import StatePaths

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FAULTY = Path(__file__).with_name("faulty_daemon.py")
TEN_YEARS = 10 * 365.25 * 86_400


class FaultyDaemon(Daemon):
    """One whose calls to the system fail as ``fail`` says."""

    def __init__(self, folder: Path, *, state: Path | None = None) -> None:
        super().__init__(folder)
        self.state = state or self.state
        # As it comes: after an index is rebuilt, what was received is known only where it is what is stored.
        text = self.config.read_text()
        self.config.write_text(
            text.replace("warmup_frames = 4", "warmup_frames = 4\nscales = [1.0]\ndrop_fraction = 0.0")
        )
        self._faults = folder / "faults.json"
        self.program = (sys.executable, str(FAULTY), str(self._faults))
        self.options = ("--log-level", "debug")  # evictions are told by name
        self.fail()

    def fail(self, **fault: object) -> None:
        """From now on, and until the next call."""
        fresh = self._faults.with_suffix(".new")
        fresh.write_text(json.dumps(fault) if fault else "")
        fresh.replace(self._faults)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., FaultyDaemon]]:
    begun: list[FaultyDaemon] = []

    def make(**options: Path) -> FaultyDaemon:
        begun.append(FaultyDaemon(tmp_path, **options))
        begun[-1].start()
        return begun[-1]

    yield make
    for daemon in begun:
        daemon.stop(signal.SIGKILL)


FAULTS = [
    ("open", errno.ENOSPC, "store_full"),
    ("write", errno.ENOSPC, "store_full"),
    ("write", errno.EDQUOT, "store_full"),
    ("write", errno.EIO, "store_failed"),
    ("open", errno.EROFS, "store_failed"),
    ("fsync", errno.EIO, "store_failed"),
    ("fsync", errno.ENOSPC, "store_full"),
    ("replace", errno.EIO, "store_failed"),
    ("replace", errno.EROFS, "store_failed"),
]
#: Frames that each fault refuses at least, and that are kept after it.
REFUSED, KEPT = 4, 6


def test_each_write_that_fails_is_refused_and_the_daemon_goes_on(
    begin: Callable[..., FaultyDaemon], figures: Figures
) -> None:
    daemon = begin()
    promises = Promises()
    load = Load(daemon.facts["ingest"][0], promises)
    for call, code, answer in FAULTS:
        daemon.fail(call=call, errno=code, path="/samples/")
        refused = promises.answers[answer]
        assert load.wait_for_answers(refused + REFUSED, name=answer, alive=lambda: daemon.alive), (call, code)
        # Waited for, as a camera's late answers may be of the fault before.
        daemon.wait_until(lambda status: "are not stored" in str(status["warnings"]))
        daemon.fail()
        kept = promises.answers["kept"]
        assert load.wait_for_answers(kept + KEPT, name="kept", alive=lambda: daemon.alive), (call, code)
    counted = daemon.ask("status")["frames"]
    assert counted["rejected"] >= REFUSED * len(FAULTS)
    daemon.stop(signal.SIGKILL)
    load.stop()
    audit(daemon.state, promises)
    daemon.start()
    assert daemon.stop() == 0
    audit(daemon.state, promises)
    kinds = sorted({f"{errno.errorcode[code]} at {call}" for call, code, _ in FAULTS})
    figures.disks.append(measured(", ".join(kinds), promises))


def measured(fault: str, promises: Promises) -> Disk:
    """The figures of a test whose audits found nothing lost, or it would not be here."""
    refused = sum(promises.answers[answer] for answer in ("store_full", "store_failed"))
    return Disk(fault=fault, refused=refused, kept=len(promises.kept), lost=0)


@pytest.fixture
def small_disk(mounted: Callable[[int], Path]) -> Path:
    """A file system of 24 MiB."""
    return mounted(24)


def test_a_disk_that_others_fill_and_a_disk_that_is_read_only(
    begin: Callable[..., FaultyDaemon], small_disk: Path, figures: Figures
) -> None:
    daemon = begin(state=small_disk / "state")
    promises = Promises()
    load = Load(daemon.facts["ingest"][0], promises)
    alive = lambda: daemon.alive  # noqa: E731
    assert load.wait_for_answers(100, name="kept", alive=alive)
    # Somebody else takes every byte: image files, index and WAL all meet the end of the disk.
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    answered = promises.answers.total()
    assert load.wait_for_answers(answered + 100, alive=alive), daemon.log.read_text()[-3000:]
    filler.unlink()
    kept = promises.answers["kept"]
    assert load.wait_for_answers(kept + 100, name="kept", alive=alive), daemon.log.read_text()[-3000:]
    daemon.stop(signal.SIGKILL)
    load.stop()
    # With a full disk the oldest samples may make room for new ones.
    audit(small_disk / "state", promises, evicts=True)

    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(60) == 1
    assert "cannot write in the state folder" in daemon.log.read_text()
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    daemon.start()
    assert daemon.stop() == 0
    audit(small_disk / "state", promises, evicts=True)
    files = {image.id for image in scan(StatePaths(small_disk / "state")).images.values()}
    assert not lost_samples(promises.kept.keys(), files, daemon.log.read_text())
    figures.disks.append(measured("a tmpfs that others fill, then read-only", promises))


def test_an_index_that_is_truncated_or_deleted_costs_no_sample(begin: Callable[..., FaultyDaemon]) -> None:
    daemon = begin()
    database = daemon.state / "dance.db"
    promises = Promises()
    first = 0

    def run(meanwhile: Callable[[], object] = lambda: None) -> None:
        nonlocal first
        load = Load(daemon.facts["ingest"][0], promises, first=first)
        for step in (meanwhile, lambda: None):
            kept = promises.answers["kept"]
            load.wait_for_answers(kept + 60, name="kept", alive=lambda: daemon.alive)
            step()
        daemon.stop(signal.SIGKILL)
        first = load.stop()

    def delete() -> None:
        for path in daemon.state.glob("dance.db*"):
            path.unlink()

    # Under the running daemon, which goes on with a file that nobody can reach any more.
    run(delete)
    daemon.start()
    run()
    for part in (0.0, 0.3, 0.9):
        os.truncate(database, int(database.stat().st_size * part))
        daemon.start()
        assert daemon.stop() == 0
        audit(daemon.state, promises)
    # Cut under the running daemon: it may notice and stop, it may not promise what it loses.
    daemon.start()
    run(lambda: os.truncate(database, database.stat().st_size // 2))
    daemon.start()
    run()
    daemon.start()
    assert daemon.stop() == 0
    audit(daemon.state, promises)


def test_clocks_that_jump_ten_years_stop_nothing(begin: Callable[..., FaultyDaemon]) -> None:
    daemon = begin()
    promises = Promises()
    load = Load(daemon.facts["ingest"][0], promises)
    uptime = -1.0
    for shift in (TEN_YEARS, -TEN_YEARS, 0.0):
        daemon.fail(clock=shift)
        kept = promises.answers["kept"]
        assert load.wait_for_answers(kept + 60, name="kept", alive=lambda: daemon.alive)
        status = daemon.ask("status")
        assert uptime < status["uptime_s"] < uptime + 600
        uptime = status["uptime_s"]
        assert 0 < status["energy"]["budget_joules"] <= 20_000
    daemon.fail(clock=TEN_YEARS)
    assert daemon.stop() == 0
    load.stop()
    audit(daemon.state, promises)
    # And across restarts.
    for shift in (-TEN_YEARS, TEN_YEARS, 0.0):
        daemon.fail(clock=shift)
        daemon.start()
        assert daemon.ask("status")["energy"]["budget_joules"] <= 20_000
        assert daemon.stop() == 0
    audit(daemon.state, promises)
