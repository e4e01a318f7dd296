"""The first hour with the page of that name beside one: its commands, typed in fresh shells by two new users.

Installation is left to the checks of the packages.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
from page_user import (
    CONFIG,
    EXPORT_VARIABLES,
    FRAMES,
    HEIGHT,
    RUN,
    WIDTH,
    User,
    command,
    commands,
)

from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import encode_png

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "first-hour.md"
README = DOCS.parent / "README.md"

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
#: The other commands of the page, and why nobody types them here.
LEFT = {
    "make run": "installs and runs everything, which the checks of the package do",
    "python3 -m venv": "the environment of this test is the one that is activated",
    ". venv/bin/activate": "as above",
    "pip install": "as above",
    "dance-ondevice stream /dev/video0": "needs a camera",
    "dance-ondevice console": "needs a browser; tests/daemon/console/test_browser.py has one",
    "dance-ondevice pretrain": "trains for minutes on a data set that does not come along",
}


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


def test_every_command_of_the_page_is_walked_or_left_for_a_reason() -> None:
    walked = {command(PAGE, start) for start in (*WITHOUT_LABELS, *WITH_FIVE)}
    rest = [line for line in commands(PAGE) if line not in walked]

    assert [line for line in rest if not line.startswith(tuple(LEFT))] == []
    assert [start for start in LEFT if not any(line.startswith(start) for line in rest)] == []


def test_the_readme_has_the_commands_of_the_first_minute_alone() -> None:
    assert [line.partition("  ")[0] for line in commands(README)] == ["make run", "sudo make install-service"]


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
    user = User(PAGE, tmp_path, street, weights="")
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
    # One of the two users has the graph exported; each version would be, and compared.
    user = User(PAGE, tmp_path, street, weights="untrained", engine="torch")
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
