"""The first hour with the README beside one: its own commands, typed in fresh shells by two new users.

Only what a test cannot have is replaced: the camera's address by a folder of rendered frames, ports by free
ones, the size of the model by a small one. Installation is left to the checks of the packages.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import encode_png

README = Path(__file__).resolve().parents[2] / "README.md"
#: A busy machine is no failure.
PATIENCE = 300
WIDTH, HEIGHT = 160, 120
FRAMES = 40
#: Frames a second of the recording: it spans several of the blocks of time that are held out as a whole.
RATE = 2

CONFIG = "dance-ondevice config init"
EXPORT_VARIABLES = "export DANCE_CONFIG"
RUN = "dance-ondevice run"
CAMERA = "dance-ondevice stream rtsp:"
RECORDING = "dance-ondevice stream recording.mp4"
FOLDER = "dance-ondevice stream FOLDER"
STATUS = "dance-ondevice status"
WATCH = "dance-ondevice watch --http"
TRAIN = "dance-ondevice train-now --wait"
MODELS = "dance-ondevice models list"
SAMPLES = "dance-ondevice samples list"
ENERGY = "dance-ondevice energy"
PAUSE = "dance-ondevice pause"
SIMULATE = "dance-ondevice simulate"
DOCTOR = "dance-ondevice doctor"
EXPORT = "dance-ondevice samples export --for-labelling"
DRY_RUN = "dance-ondevice labels import DIR --dry-run"
IMPORT = "dance-ondevice labels import DIR  "

START = (CONFIG, EXPORT_VARIABLES, RUN)
WITHOUT_LABELS = (*START, CAMERA, STATUS, WATCH, TRAIN, MODELS, ENERGY, PAUSE, DOCTOR)
WITH_FIVE = (
    *START, RECORDING, EXPORT, DRY_RUN, IMPORT, STATUS, TRAIN, MODELS, SAMPLES, SIMULATE, FOLDER,
)  # fmt: skip
#: The other commands of the README, and why nobody types them here.
LEFT = {
    "make ": "installs and runs everything, which the checks of the package do",
    "python3 -m venv": "the environment of this test is the one that is activated",
    ". venv/bin/activate": "as above",
    "pip install": "as above",
    "dance-ondevice stream /dev/video0": "needs a camera",
    "sudo ": "needs systemd",
    "dance-ondevice console": "needs a browser; tests/daemon/console/test_browser.py has one",
    "dance-ondevice pretrain": "trains for minutes on a data set that does not come along",
    "dance-ondevice bench": "measures for minutes on that data set",
}


def commands() -> list[str]:
    """Every line of the README's shell blocks, comments and all; continued lines are joined."""
    blocks = re.findall(r"^```\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def of_readme(start: str) -> str:
    """The README's command that starts so."""
    (line,) = [line for line in commands() if f"{line}  ".startswith(start)]
    return line


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class User:
    """Somebody with a fresh home and an activated environment, who types what the README says.

    Each command gets a shell of its own; what the README exports "in each shell" is typed first.
    """

    def __init__(self, home: Path, street: StreetCamera, *, weights: str) -> None:
        self.home = home
        self.typed: set[str] = set()
        self.seconds: list[tuple[str, float]] = []
        self._street = street
        (home / "runtime").mkdir(mode=0o700)
        ingest, masks, metrics, page = free_ports(4)
        self.page = f"http://127.0.0.1:{page}/"
        self._hardware = {"rtsp://camera.local/main": "frames", ":5555": f":{ingest}", ":8088": f":{page}"}
        self._site = {
            ":5555": f":{ingest}",
            ":5556": f":{masks}",
            ":9747": f":{metrics}",
            "\nsize = [480, 360]": f"\nsize = [{WIDTH}, {HEIGHT}]",
            '\nweights = ""': f'\nweights = "{weights}"',
        }
        tools = Path(sys.executable).parent
        assert (tools / "dance-ondevice").exists(), "install the package: pip install -e ."
        self._environ = {
            "HOME": str(home),
            "PATH": f"{tools}:/usr/bin:/bin",
            "VIRTUAL_ENV": str(tools.parent),
            "TERM": "dumb",
            "XDG_RUNTIME_DIR": str(home / "runtime"),
        }

    def type(self, start: str, *, code: int = 0, **words: str) -> str:
        """Type the README's command that starts so, words such as ID filled in; returns what it prints."""
        process, began = self._launch(start, subprocess.PIPE, words), time.monotonic()
        printed, _ = process.communicate(timeout=PATIENCE)
        self.seconds.append((start, time.monotonic() - began))
        assert process.returncode == code, f"{start}: {process.returncode}\n{printed}"
        assert "Traceback" not in printed
        return str(printed)

    @contextmanager
    def typing(self, start: str, log: str, *, drop: str = "") -> Iterator[subprocess.Popen[str]]:
        """The same of a command that runs until Ctrl-C, which the end of the block is."""
        with (self.home / log).open("w") as output:
            process = self._launch(start, output.fileno(), {drop: ""} if drop else {})
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(PATIENCE)
        assert "Traceback" not in (self.home / log).read_text()

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Make the configuration and run the service until the end of the block."""
        self.type(CONFIG)
        site = self.home / "site.toml"
        text = site.read_text()
        for default, here in self._site.items():
            assert default in text, default
            text = text.replace(default, here)
        site.write_text(text)
        began = time.monotonic()
        with self.typing(RUN, "run.log") as process:
            self.wait_until(lambda: " ready " in self.log() or process.poll() is not None, self.log)
            assert process.poll() is None, self.log()
            self.seconds.append((RUN, time.monotonic() - began))
            yield
        assert " stopped " in self.log()

    def log(self) -> str:
        return (self.home / "run.log").read_text()

    def wait_until(self, true: Callable[[], object], said: Callable[[], str]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, said()
            # Another process is waited for: the only way is to look again.
            time.sleep(0.1)

    def take_frames(self) -> None:
        (self.home / "frames").mkdir()
        for number in range(FRAMES):
            cv2.imwrite(str(self.home / "frames" / f"{number:06d}.png"), self.picture(number)[0])

    def record(self) -> None:
        video = cv2.VideoWriter(
            str(self.home / "recording.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), RATE, (WIDTH, HEIGHT)
        )
        for number in range(FRAMES):
            video.write(self.picture(number)[0])
        video.release()

    def picture(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image and label of a frame of the camera or the recording."""
        return self._street.render(number * 5)

    def report(self) -> str:
        return "".join(f"\n{seconds:7.1f} s  {start.strip()}" for start, seconds in self.seconds)

    def _launch(self, start: str, output: int, words: dict[str, str]) -> subprocess.Popen[str]:
        self.typed.add(start)
        line = of_readme(start)
        for word, here in {**self._hardware, **words}.items():
            line = line.replace(word, here)
        if " stream " in line and "--to" not in line:
            line += f" --to tcp://127.0.0.1{self._hardware[':5555']}"
        lines = [line]
        if start != CONFIG:
            self.typed.add(EXPORT_VARIABLES)
            lines.insert(0, of_readme(EXPORT_VARIABLES))
        return subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", "\n".join(lines)],
            cwd=self.home,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that Ctrl-C reaches the shell and what it runs, and nothing else
        )


@pytest.fixture(scope="module")
def street() -> StreetCamera:
    return StreetCamera(seed=1, height=HEIGHT, width=WIDTH)


@contextmanager
def reported(
    user: User, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> Iterator[None]:
    """Print the seconds of each step and put them into the report."""
    began = time.monotonic()
    try:
        yield
    finally:
        with capsys.disabled():
            print(f"{user.report()}\n{time.monotonic() - began:7.1f} s  in all")
        for start, seconds in user.seconds:
            record_property(f"seconds of {start.strip()}", round(seconds, 1))


def test_every_command_of_the_readme_is_walked_or_left_for_a_reason() -> None:
    walked = {of_readme(start) for start in (*WITHOUT_LABELS, *WITH_FIVE)}
    rest = [line for line in commands() if line not in walked]

    assert [line for line in rest if not line.startswith(tuple(LEFT))] == []
    assert [start for start in LEFT if not any(line.startswith(start) for line in rest)] == []


def page_of(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_first_hour_without_labels(
    tmp_path: Path,
    street: StreetCamera,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    user = User(tmp_path, street, weights="")
    user.take_frames()
    with reported(user, capsys, record_property), user.daemon():
        began = time.monotonic()
        with (
            user.typing(WATCH, "page.log"),
            user.typing(WATCH, "watch.log", drop=f"--http 127.0.0.1{user.page[16:-1]}"),
            user.typing(CAMERA, "camera.log"),
        ):
            user.wait_until(lambda: "<img" in page_of(user.page), user.log)
            user.wait_until((tmp_path / "overlay.png").exists, user.log)
        user.seconds.append((WATCH, time.monotonic() - began))
        assert cv2.imread(str(tmp_path / "overlay.png")) is not None

        status = user.type(STATUS)
        assert "labels 0: nothing can be learnt without them" in status
        assert "next: dance-ondevice samples export --for-labelling 20 --out DIR" in status
        assert "untrained" not in status  # it starts from the model that comes along
        refused = user.type(TRAIN, code=1)
        assert "0 of 1 new labelled samples" in refused
        assert "labels 0: nothing can be learnt without them" in refused
        assert "next: dance-ondevice samples export" in refused
        assert "v0001" in user.type(MODELS)
        spent = user.type(ENERGY)
        assert "joules" in spent.lower()
        assert "Ledger" not in spent  # no round ran
        assert user.type(PAUSE).splitlines()[-1] == "resumed"
        told = user.type(DOCTOR)
        assert told.count("is held by the running daemon") == 3, told

    assert user.typed == set(WITHOUT_LABELS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_first_hour_with_five_labels(
    tmp_path: Path,
    street: StreetCamera,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    """From an untrained network, as with classes of one's own: the first round with labels goes live."""
    user = User(tmp_path, street, weights="untrained")
    user.record()
    with reported(user, capsys, record_property), user.daemon():
        assert re.search(f"^sent +{FRAMES}$", user.type(RECORDING), re.M)
        user.type(EXPORT)
        samples = label_five(user)
        assert "5 would be imported, 0 refused" in user.type(DRY_RUN)
        assert "5 imported, 0 refused" in user.type(IMPORT)
        status = user.type(STATUS)
        assert "labelled 5," in status
        assert "the live model is untrained: its masks mean nothing until a round is promoted" in status
        # At once, though labels are counted every few seconds only.
        assert "5 of 64 new labelled samples, looks again" in status
        assert "next: dance-ondevice train-now --wait" in status

        outcome = user.type(TRAIN)
        assert re.search(r"^outcome +promoted$", outcome, re.M), outcome
        assert "the live model is untrained, so the gain in mIoU alone decided" in outcome
        assert re.search("v0002 .* live ", user.type(MODELS))
        assert samples[0] in user.type(SAMPLES, ID=samples[0])
        assert "Simulated days" in user.type(SIMULATE)
        status = user.type(STATUS)
        assert "v0002" in status
        assert "untrained" not in status

        # A folder with labels beside it, such as an older recording.
        for folder, part in (("FOLDER", 0), ("FOLDER_OF_LABELS", 1)):
            (tmp_path / folder).mkdir()
            for number in range(2):
                picture = street.render(1000 + 50 * number)[part]
                (tmp_path / folder / f"{number:06d}.png").write_bytes(encode_png(picture))
        assert re.search("^labelled +2$", user.type(FOLDER), re.M)

    assert user.typed == set(WITH_FIVE)


def label_five(user: User) -> list[str]:
    """Label five of the exported images, spread over time, as the renderer knows them; returns their ids."""
    images = json.loads((user.home / "DIR" / "manifest.json").read_text())["images"]
    images.sort(key=lambda image: image["captured_at"])
    chosen = [images[index * (len(images) - 1) // 4] for index in range(5)]
    for image in chosen:
        label = user.picture(int(image["id"].rpartition("-")[2]))[1]
        (user.home / "DIR" / image["label"]).write_bytes(encode_png(label))
    return [image["id"] for image in chosen]
