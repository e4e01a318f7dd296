"""The whole daemon as a process, from its command line to its exit status."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from daemon_process import Camera, Daemon
from prometheus_client.parser import text_string_to_metric_families

from dance_ondevice.images import codec as images
from dance_ondevice.policies.rounds.next_step import REASONS

pytestmark = pytest.mark.slow


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    started: list[Daemon] = []

    def start(*, inference: bool = False, engine: str = "torch", extra: str = "", **environ: str) -> Daemon:
        daemon = Daemon(tmp_path, inference=inference, engine=engine, extra=extra)
        started.append(daemon)
        return daemon.start(**environ)

    yield start
    for daemon in started:
        daemon.stop(signal.SIGKILL)


@pytest.fixture
def camera() -> Iterator[Callable[[Daemon], Camera]]:
    opened: list[Camera] = []

    def connect(daemon: Daemon) -> Camera:
        opened.append(Camera(daemon.facts["ingest"][0]))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def scrape(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urllib.request.urlopen(url, timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def test_frames_round_masks_metrics_and_a_clean_stop(
    launch: Callable[..., Daemon], camera: Callable[[Daemon], Camera]
) -> None:
    daemon = launch(inference=True, engine="auto")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    subscriber = context.socket(zmq.SUB)
    subscriber.linger = 0
    subscriber.rcvtimeo = 30_000
    subscriber.subscribe(b"mask/front")
    subscriber.connect(daemon.facts["inference"])
    sender = camera(daemon)
    replies = [sender.send(index, labelled=index % 4 != 3) for index in range(40)]
    assert all(reply["ok"] for reply in replies)
    kept = [reply for reply in replies if reply["kept"]]
    assert 30 < len(kept) < 40, "what has a label is kept, and most of the rest"

    topic, header, png = subscriber.recv_multipart()
    facts = json.loads(header)
    assert topic == b"mask/front"
    assert set(facts) >= {
        "v", "id", "camera", "seq", "captured_at", "model_version", "scale", "latency_s", "mean_confidence",
    }  # fmt: skip
    assert facts["model_version"] == "v0001"
    assert images.decode_label(png).shape == (48, 64)

    trained = daemon.run_cli("train-now", "--wait", "--json")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    outcome = json.loads(trained.stdout)
    assert outcome["outcome"] == "promoted"
    assert outcome["joules"] > 0
    assert outcome["method"] == "modelled"

    # The swap: frames sent from here on are served by the new version.
    sender.send(100)
    while json.loads(subscriber.recv_multipart()[1])["model_version"] != "v0002":
        pass
    subscriber.close()
    context.term()
    if daemon.ask("status")["inference"]["engine"] != "torch":
        # Neither the first version, nor a round, nor the swap has brought it into the daemon.
        assert "libtorch" not in (Path("/proc") / str(daemon.running.pid) / "maps").read_text()

    values = scrape(daemon.facts["metrics"])
    outcomes = {dict(labels)["outcome"]: v for (n, labels), v in values.items() if n == "dance_frames_total"}
    assert sum(outcomes.values()) == 41
    by_condition = [
        (dict(labels), v) for (n, labels), v in values.items() if n == "dance_condition_frames_total"
    ]
    assert sum(v for labels, v in by_condition if labels["outcome"] == "kept") == outcomes["kept"]
    assert all(labels["condition"] for labels, _ in by_condition)
    assert values["dance_rounds_total", (("outcome", "promoted"),)] == 1
    assert values["dance_model_info", (("architecture", "fastscnn"), ("version", "v0002"))] == 1
    assert values["dance_workload_joules_total", (("workload", "training"),)] > 0
    assert values["dance_model_miou", (("split", "gate"),)] == pytest.approx(outcome["miou_after"])
    total = sum(v for (n, _), v in values.items() if n == "dance_energy_joules_total")
    parts = sum(v for (n, _), v in values.items() if n == "dance_workload_joules_total")
    # The parts are added in another order than the whole.
    assert 0 < parts <= total + 1e-6

    for command in (("status",), ("models", "list"), ("samples", "list"), ("energy",)):
        shown = daemon.run_cli(*command, "--json")
        assert shown.returncode == 0, shown.stderr
        assert json.loads(shown.stdout)
        assert daemon.run_cli(*command).returncode == 0
    assert daemon.ask("status")["inference"]["threads"] == 1  # as configured
    rolled = daemon.run_cli("models", "rollback")
    assert rolled.returncode == 0, rolled.stderr
    assert daemon.ask("status")["version"] == "v0001"

    assert daemon.stop() == 0
    assert not (daemon.state / "daemon.json").exists()


#: What an interpreter reads at its start: asked by a signal, it writes which heaps glibc has, and says when.
TELLS_OF_ITS_HEAPS = """
import ctypes, os, signal

def tell(*_):
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_info"):
        libc.fopen.restype = ctypes.c_void_p
        libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
        file = libc.fopen(os.environ["HEAPS"].encode(), b"w")
        libc.malloc_info(0, file)
        libc.fclose(file)
    with open(os.environ["PIPE"], "w") as pipe:
        pipe.write("written")

signal.signal(signal.SIGUSR1, tell)
"""


def test_threads_of_a_running_daemon_share_heaps(launch: Callable[..., Daemon], tmp_path: Path) -> None:
    pipe, heaps = tmp_path / "pipe", tmp_path / "heaps.xml"
    os.mkfifo(pipe)
    (tmp_path / "sitecustomize.py").write_text(TELLS_OF_ITS_HEAPS)
    daemon = launch(PYTHONPATH=str(tmp_path), PIPE=str(pipe), HEAPS=str(heaps))
    daemon.running.send_signal(signal.SIGUSR1)
    assert pipe.read_text() == "written"
    if heaps.exists():  # glibc alone has them
        assert heaps.read_text().count("<heap nr=") <= 2
    assert daemon.stop() == 0


def test_a_second_daemon_on_the_same_state_is_refused(launch: Callable[..., Daemon]) -> None:
    daemon = launch()
    second = daemon.run_cli("run", "--config", str(daemon.config))
    assert second.returncode == 1
    assert f"pid {daemon.running.pid}" in second.stderr


@pytest.mark.parametrize(("key", "section"), [("ingest.bind", "[ingest]"), ("metrics.listen", "[metrics]")])
def test_an_address_in_use_names_the_key_to_change(tmp_path: Path, key: str, section: str) -> None:
    daemon = Daemon(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = daemon.config.read_text()
        if key == "ingest.bind":
            text = text.replace("tcp://127.0.0.1:*", f"tcp://{address}", 1)
        else:
            text = text.replace("127.0.0.1:0", address)
        daemon.config.write_text(text)
        refused = daemon.run_cli("run", "--config", str(daemon.config))
    assert refused.returncode == 1
    assert key in refused.stderr
    assert address in refused.stderr


def test_a_state_folder_that_cannot_be_says_what_to_do(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    (tmp_path / "file").write_text("")
    daemon.state = tmp_path / "file" / "state"
    refused = daemon.run_cli("run", "--config", str(daemon.config))
    assert refused.returncode == 1
    assert "--state-dir" in refused.stderr
    assert str(daemon.state) in refused.stderr


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_index_in_its_place_is_named(tmp_path: Path, make: Callable[[Path], object]) -> None:
    daemon = Daemon(tmp_path)
    daemon.state.mkdir()
    make(daemon.state / "dance.db")
    refused = daemon.run_cli("run", "--config", str(daemon.config))
    assert refused.returncode == 1
    assert "dance.db is no file; move it away" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_base_model_of_other_classes_is_a_configuration_error(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    base = tmp_path / "base"
    base.mkdir()
    (base / "card.json").write_text(json.dumps({"classes": ["cat", "dog"]}))
    (base / "model.safetensors").write_bytes(b"")
    daemon.config.write_text(daemon.config.read_text().replace('"untrained"', f'"{base}"'))
    refused = daemon.run_cli("run", "--config", str(daemon.config))
    assert refused.returncode == 78
    assert "model.classes" in refused.stderr
    assert "cat" in refused.stderr


def test_acknowledged_frames_survive_kill_9_and_a_resend_is_stored_once(
    launch: Callable[..., Daemon], camera: Callable[[Daemon], Camera]
) -> None:
    daemon = launch()
    sender = camera(daemon)
    kept = [r["id"] for r in (sender.send(index) for index in range(12)) if r["kept"]]
    daemon.stop(signal.SIGKILL)
    daemon.start()
    again = camera(daemon)
    resent = [again.send(index) for index in range(4)]
    assert [r["id"] for r in resent] == kept[:4]
    assert daemon.stop() == 0
    database = sqlite3.connect(daemon.state / "dance.db")
    stored = [row[0] for row in database.execute("select id from samples order by captured_at")]
    database.close()
    assert stored == kept
    for path in (daemon.state / "samples").rglob("*.jpg"):
        images.decode_colour(path.read_bytes())


def test_a_stop_in_the_middle_of_a_round_saves_it_and_the_next_start_finishes_it(
    launch: Callable[..., Daemon], camera: Callable[[Daemon], Camera]
) -> None:
    daemon = launch()
    sender = camera(daemon)
    for index in range(40):
        sender.send(index)
    daemon.ask("train_now")
    daemon.wait_until(lambda status: status["rounds"]["step"])
    assert daemon.stop() == 0
    daemon.start()
    status = daemon.wait_until(lambda status: status["rounds"].get("promoted"))
    assert status["rounds"]["count"] == 1
    assert daemon.stop() == 0


def test_systemd_is_told_ready_watchdog_status_and_stopping(tmp_path: Path) -> None:
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = str(tmp_path / "notify.sock")
    told.bind(address)
    told.settimeout(30)
    daemon = Daemon(tmp_path)
    try:
        daemon.start(NOTIFY_SOCKET=address, WATCHDOG_USEC="2000000")
        seen: list[str] = []
        while not {"READY=1", "WATCHDOG=1"} <= set(seen) or not any(s.startswith("STATUS=") for s in seen):
            seen += told.recv(4096).decode().splitlines()
        assert seen[0] == "READY=1"
        status = next(s for s in seen if s.startswith("STATUS="))
        assert "frames/s" in status
        assert "J to spend" in status
        assert "live " in status
        assert status.endswith("no round")

        # A reload, asked for by signal: systemd is told of both its ends, and a mistake changes nothing.
        daemon.config.write_text(daemon.config.read_text() + "[storage]\nquota_bytes = 1\n")
        daemon.running.send_signal(signal.SIGHUP)
        seen.clear()
        while "READY=1" not in seen:
            seen += told.recv(4096).decode().splitlines()
        reloading = seen.index("RELOADING=1")
        assert seen[reloading + 1].startswith("MONOTONIC_USEC=")
        assert seen.index("READY=1") > reloading
        assert "nothing changed" in daemon.log.read_text()
        assert daemon.stop() == 0
        while "STOPPING=1" not in seen:
            seen += told.recv(4096).decode().splitlines()
    finally:
        daemon.stop(signal.SIGKILL)
        told.close()


def test_without_inference_torch_is_never_loaded(
    launch: Callable[..., Daemon], camera: Callable[[Daemon], Camera]
) -> None:
    daemon = launch()
    assert daemon.ask("status")["next_step"]["reasons"] == ["no_frames"]
    assert camera(daemon).send(0, labelled=False)["kept"]
    # What it lacks is said at the start, when asked, and as a metric.
    step = daemon.wait_until(lambda status: status["next_step"]["reasons"] == ["no_labels"])["next_step"]
    assert "nothing can be learnt without them, looks again " in step["line"]
    assert step["command"].startswith("dance-ondevice samples export --for-labelling")
    assert step["command"] in daemon.run_cli("status").stdout
    values = scrape(daemon.facts["metrics"])
    blocked = {dict(labels)["reason"] for n, labels in values if n == "dance_learning_blocked"}
    assert values["dance_learning_blocked", (("reason", "no_labels"),)] == 1
    assert values["dance_learning_blocked", (("reason", "paused"),)] == 0
    assert blocked == set(REASONS)
    assert "learning: no samples yet" in daemon.log.read_text()
    maps = (Path("/proc") / str(daemon.running.pid) / "maps").read_text()
    assert "libtorch" not in maps
    assert "cv2" in maps
    status = (Path("/proc") / str(daemon.running.pid) / "status").read_text()
    # What is its own: of shared libraries as much counts as resident as the page cache happens to hold.
    (private,) = re.findall(r"RssAnon:\s+(\d+) kB", status)
    assert int(private) < 60_000, status
    # Nothing is inferred, so no joule is inference's: the scrapes are the service's own.
    before = daemon.ask("status")["energy"]["workload_joules"]
    for _ in range(100):
        scrape(daemon.facts["metrics"])
    joules = daemon.wait_until(
        lambda status: status["energy"]["workload_joules"].get("service", 0) > before.get("service", 0)
    )["energy"]["workload_joules"]
    assert joules["inference"] == 0
    values = scrape(daemon.facts["metrics"])
    exported = {dict(labels)["workload"] for n, labels in values if n == "dance_workload_joules_total"}
    assert exported >= joules.keys()


def test_a_reload_takes_over_what_can_change_and_says_what_waits(
    launch: Callable[..., Daemon], camera: Callable[[Daemon], Camera]
) -> None:
    daemon = launch()
    text = daemon.config.read_text()
    changed = text.replace("min_free_bytes = 0", "min_free_bytes = 4611686018427387904")
    changed = changed.replace("max_watts = 4.0", "max_watts = 5.0\nbudget_joules_per_day = 0")
    daemon.config.write_text(changed)
    shown = daemon.run_cli("config", "reload")
    assert shown.returncode == 0, shown.stderr
    assert "holds from now on: energy.budget_joules_per_day = 0.0 (was 20000.0)" in shown.stdout
    assert "needs a restart: energy.max_watts = 5.0 (was 4.0)" in shown.stdout
    # It does hold: nothing may be stored on so full a disk, and nothing may be spent.
    sender = camera(daemon)
    refused = sender.send(0)
    assert not refused["ok"]
    assert "min_free_bytes" in refused["error"]
    status = daemon.wait_until(lambda status: status["energy"]["budget_joules"] == 0)
    assert any("energy.max_watts" in warning for warning in status["warnings"])
    assert "no_budget" in status["next_step"]["reasons"]

    daemon.config.write_text("[energy]\nbudget_joules_per_day = -1\n[what]\n")
    wrong = daemon.run_cli("config", "reload")
    assert wrong.returncode == 1
    assert "nothing changed" in wrong.stderr
    assert "energy.budget_joules_per_day: found -1" in wrong.stderr
    assert "an unknown section" in wrong.stderr
    daemon.config.write_text(text.replace("warmup_frames = 4", "enabled = false"))
    assert daemon.run_cli("config", "reload", "--json").returncode == 0
    assert [sender.send(index)["kept"] for index in range(1, 30)] == [True] * 29
    assert daemon.stop() == 0


def test_a_stop_while_it_starts_ends_it_soon(tmp_path: Path) -> None:
    """Whatever it was doing: nothing is half done, and the next start finds all in order."""
    daemon = Daemon(tmp_path, inference=True)
    daemon.launch()
    while "index reconciled" not in daemon.log.read_text():
        assert daemon.running.poll() is None, daemon.log.read_text()
    assert daemon.stop() == 0
    log = daemon.log.read_text()
    assert "stopped while starting" in log
    assert "ready ingest" not in log
    daemon.start()
    assert daemon.stop() == 0


TREES = Path(__file__).parent.parent.parent / "energy" / "trees"


def test_a_boards_own_meter_is_used_exported_and_lost_without_a_guess(
    launch: Callable[..., Daemon], tmp_path: Path
) -> None:
    sysfs = tmp_path / "sys"
    shutil.copytree(TREES / "orin_nano_jp6" / "sys", sysfs)
    daemon = launch(extra=f'sysfs_root = "{sysfs}"\n')
    status = daemon.wait_until(lambda status: status["energy"]["gross_joules"] > 1.0)
    assert (status["energy"]["source"], status["energy"]["method"]) == ("ina3221", "integrated")
    values = scrape(daemon.facts["metrics"])
    (sources,) = {dict(labels)["source"] for (n, labels) in values if n == "dance_energy_joules_total"}
    assert sources == "ina3221"
    board = (("domain", "board"), ("method", "integrated"), ("source", "ina3221"))
    assert values["dance_energy_watts", board] == pytest.approx(4.960 * 0.968)
    assert status["energy"]["watts"] == {"board": pytest.approx(4.960 * 0.968)}
    assert "ina3221 (integrated): board 4.8" in daemon.run_cli("status").stdout

    # The sensor vanishes: what passes from now on is unmeasured, and no joule is made up.
    shutil.rmtree(sysfs / "class" / "hwmon")
    status = daemon.wait_until(lambda status: status["energy"]["unmeasured_seconds"] > 1.0)
    frozen = status["energy"]["gross_joules"]
    later = daemon.wait_until(lambda status: status["energy"]["unmeasured_seconds"] > 2.0)
    assert later["energy"]["gross_joules"] == frozen
    assert later["energy"]["watts"] == {}
    assert "no_energy_meter" in later["next_step"]["reasons"]
    assert "dance_energy_watts" not in {name for name, _ in scrape(daemon.facts["metrics"])}
    assert daemon.stop() == 0


def test_a_named_meter_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, extra=f'meter = "rapl"\nsysfs_root = "{tmp_path}"\n')
    refused = daemon.run_cli("run", "--config", str(daemon.config))
    assert refused.returncode == 1
    assert "rapl" in refused.stderr
