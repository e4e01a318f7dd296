"""``dance-ondevice stream`` against a real ingest thread, and against nobody."""

from __future__ import annotations

import http.server
import itertools
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from ingest_harness import PATIENCE, jpeg, label, running

from dance_ondevice.daemon.commands.stream import chooser, printed_every, progress_line
from dance_ondevice.daemon.store.service import Store, open_reader
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.wire import sources
from dance_ondevice.daemon.wire.sender import StreamSummary

Run = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of two sequences in a CamVid layout, one of them broken, each with a label."""
    frames, annotations = tmp_path / "train", tmp_path / "trainannot"
    frames.mkdir()
    annotations.mkdir()
    for number in range(6):
        sequence = "0006R0" if number == 0 else "0001TP"
        (frames / f"{sequence}_{number}.jpg").write_bytes(jpeg(number))
        (annotations / f"{sequence}_{number}.png").write_bytes(label(classes=(0, 11)))
    (frames / "0006R0_0.jpg").write_bytes(b"broken")
    return frames


def rows(paths: StatePaths) -> list[dict[str, Any]]:
    database = open_reader(paths)
    try:
        return list(database.query("select * from samples order by seq"))
    finally:
        database.close()


@pytest.mark.parametrize("pattern", ["req", "dealer"])
def test_camvid_folder(
    run_json: Callable[..., Any], store: Store, paths: StatePaths, folder: Path, pattern: str
) -> None:
    with running(store) as harness:
        summary = run_json(
            "stream",
            str(folder),
            "--labels",
            str(folder.parent / "trainannot"),
            "--match",
            "0001TP",
            "--camera",
            "dash",
            "--to",
            harness.endpoint,
            "--pattern",
            pattern,
        )

    assert (summary["sent"], summary["kept"], summary["labelled"]) == (5, 5, 5)
    assert (summary["rejected"], summary["unanswered"], summary["errors"]) == (0, 0, {})
    stored = rows(paths)
    assert [(row["camera"], row["seq"], row["classes"]) for row in stored] == [
        ("dash", n, "[0]") for n in range(5)
    ]
    times = [row["captured_at"] for row in stored]
    assert [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)] == [1.0] * 4


def test_table_for_people(run: Run, store: Store, folder: Path) -> None:
    with running(store) as harness:
        output = run("stream", str(folder), "--match", "0001TP", "--to", harness.endpoint).stdout

    lines = dict(line.split("  ", 1) for line in output.splitlines() if not line.startswith(" "))
    assert lines["sent"].strip() == "5"
    assert lines["kept"].strip() == "5"
    assert lines["unanswered"].strip() == "0"
    assert "at scale 1" in output


def test_refused_frame_makes_the_exit_status_1(run: Run, store: Store, folder: Path) -> None:
    png = cv2.imencode(".png", np.zeros((32, 32), np.uint8))[1].tobytes()
    (folder / "0001TP_9.jpg").write_bytes(png.replace(b"IDAT", b"teXt"))
    with running(store) as harness:
        result = run("stream", str(folder), "--to", harness.endpoint, code=1)

    assert "error (1)     the image cannot be used: the png" in result.stdout
    assert "0006R0_0.jpg: neither JPEG, PNG nor WebP" in result.stderr


def test_limit_and_labels_for_some(run_json: Callable[..., Any], store: Store) -> None:
    with running(store) as harness:
        source = "synthetic:street?size=64x48&frames=100"
        options = ("--to", harness.endpoint, "--limit", "7")
        every = run_json("stream", source, *options, "--camera", "a", "--label-every", "3")
        share = run_json("stream", source, *options, "--camera", "b", "--label-fraction", "0.3")
        paced = run_json(
            "stream", source, *options, "--camera", "c", "--fps", "1000", "--label-fraction", "0"
        )

    assert [(s["sent"], s["labelled"]) for s in (every, share, paced)] == [(7, 3), (7, 2), (7, 0)]


def test_published(run_json: Callable[..., Any], store: Store, tmp_path: Path, folder: Path) -> None:
    endpoint = f"ipc://{tmp_path}/frames"
    with running(store, bind=(), subscribe=(endpoint,)) as harness:
        summary = run_json("stream", str(folder), "--match", "0001TP", "--to", endpoint, "--pattern", "pub")
        harness.recorder.wait_for(lambda: harness.recorder.count("kept") == 5)

    assert (summary["sent"], summary["kept"], summary["unanswered"]) == (5, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere",), 1, "is not there"),
        (("synthetic:street?condition=fog",), 1, "day, dusk, rain, night"),
        (("synthetic:street", "--to", "nonsense"), 1, "nonsense"),
        (("synthetic:street", "--camera", "../x"), 2, "camera name"),
        (("synthetic:street", "--label-every", "2", "--label-fraction", "0.5"), 2, "exclude each other"),
        (("synthetic:street", "--fps", "0"), 2, "--fps"),
        (("synthetic:street", "--pattern", "push"), 2, "dealer"),
        (("synthetic:street", "--labels", "/nowhere"), 2, "does not exist"),
        (("synthetic:street", "--void", "256"), 2, "0 to 255"),
        (("synthetic:street", "--void", "many"), 2, "neither none nor ids"),
    ],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...], code: int, words: str) -> None:
    assert words in " ".join(run("stream", *arguments, code=code).stderr.split())


def test_void_ids_on_request(run_json: Callable[..., Any], store: Store, folder: Path) -> None:
    labels = str(folder.parent / "trainannot")
    with running(store) as harness:
        options = ("stream", str(folder), "--labels", labels, "--match", "0001TP", "--to", harness.endpoint)
        as_they_are = run_json(*options, "--void", "none", code=1)
        other = run_json(*options, "--void", "0,11", "--camera", "other")

    assert (as_they_are["rejected"], other["kept"]) == (5, 5)
    assert any("11" in text for text in as_they_are["errors"])


def test_source_that_breaks_ends_with_a_summary(
    run: Run, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path) -> bytes:
        raise OSError(f"{path} is gone")

    monkeypatch.setattr(sources, "read_regular", gone)
    with running(store) as harness:
        result = run("stream", str(folder), "--to", harness.endpoint, code=1)

    assert "the source ended" in result.stderr
    assert "is gone" in result.stderr
    assert "sent" in result.stdout


def test_a_video_without_a_frame_is_no_success(run: Run, store: Store, tmp_path: Path) -> None:
    """As a recorder leaves it that lost its power: the header tells of frames that were not written."""
    video = tmp_path / "night.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (64, 48))
    for number in range(3):
        writer.write(np.full((48, 64, 3), 80 * number, np.uint8))
    writer.release()
    data = video.read_bytes()
    video.write_bytes(data[: data.index(b"movi") + 4])
    with running(store) as harness:
        result = run("stream", str(video), "--to", harness.endpoint, code=1)

    assert "gave no frame" in result.stderr


def test_what_was_passed_over_is_said_and_counted(run: Run, store: Store, folder: Path) -> None:
    for name in ("a.bmp", "b.bmp", "c.jp2"):
        (folder / name).touch()
    with running(store) as harness:
        result = run("stream", str(folder), "--match", "0001TP", "--to", harness.endpoint, "--json")

    assert "passed over: 2 .bmp, 1 .jp2; sent are .jpg, .jpeg, .png and .webp" in result.stderr
    assert json.loads(result.stdout)["passed_over"] == {".bmp": 2, ".jp2": 1}


def test_how_far_a_stream_is_is_said_while_it_waits() -> None:
    said = threading.Semaphore(0)
    counts = itertools.count()

    with printed_every(0.001, lambda: f"{next(counts)} frames", lambda line: said.release()):
        for _ in range(3):
            assert said.acquire(timeout=PATIENCE)
    before = next(counts)

    assert next(counts) == before + 1  # nothing is said any more


def test_a_line_says_what_became_of_the_frames() -> None:
    none = {"labelled": 0, "overflow": 0, "resent": 0, "bytes": 0, "scales": {}, "errors": {}}
    summary = StreamSummary(sent=12, kept=5, dropped=2, rejected=1, unanswered=4, seconds=9.7, **none)

    told = progress_line(summary)

    assert told == "10 s: 12 frames sent, 5 kept, 2 dropped, 1 rejected, 4 not answered yet"


class FallingSilent(http.server.BaseHTTPRequestHandler):
    """A network camera that shows ten frames, as MJPEG, and then nothing for as long as somebody listens."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(10):
            image = jpeg(number)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
            self.wfile.write(head.encode() + image + b"\r\n")
        self.connection.settimeout(PATIENCE)
        self.connection.recv(1)  # until the other end closes

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.slow
def test_a_camera_that_falls_silent_is_told_of(run: Run, store: Store, paths: StatePaths) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FallingSilent)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    url = f"http://127.0.0.1:{server.server_port}/video.mjpg"
    waits = ("--source-timeout", "1.5", "--reconnect", "0")
    try:
        with running(store) as harness:
            result = run("stream", url, "--to", harness.endpoint, *waits, "--json", code=1)
    finally:
        server.shutdown()
        serving.join()
        server.server_close()

    assert re.search(r"the source sent nothing for \d+ s", result.stderr)
    summary = json.loads(result.stdout)
    assert summary["kept"] == summary["sent"] == len(rows(paths)) > 0


@pytest.mark.slow
def test_ctrl_c_leaves_at_once_while_nobody_listens(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/nobody"
    command = [
        sys.executable,
        "-c",
        "from dance_ondevice.daemon.cli import main; main()",
        "stream",
        "synthetic:street?size=64x48",
        "--to",
        endpoint,
        "--json",
    ]
    # A shell that starts the tests in the background has them ignore Ctrl-C, which children inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with started as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"nobody listens at {endpoint} yet; waiting\n"

        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130
    summary = json.loads(stdout)
    assert 1 <= summary["unanswered"] == summary["sent"] <= 16, "at most what may wait for an answer"
    assert stderr == ""


@pytest.mark.parametrize(
    ("every", "fraction", "chosen"),
    [
        (None, None, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (4, None, [0, 4, 8]),
        (None, 0.5, [1, 3, 5, 7, 9]),
        (None, 0.3, [3, 6, 9]),
        (None, 1.0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (None, 0.0, []),
    ],
)
def test_frames_that_carry_a_label(every: int | None, fraction: float | None, chosen: list[int]) -> None:
    choose = chooser(every, fraction)

    assert [index for index in range(10) if choose(index)] == chosen


def test_share_of_labels_is_met_in_the_long_run() -> None:
    choose = chooser(None, 0.137)

    assert sum(map(choose, range(10_000))) == 1370
