"""The guides: their settings are valid, and their commands are typed beside one daemon of theirs.

What needs a board, a camera, a battery, systemd or another machine is left, for a reason that is given here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import pytest
from page_user import HEIGHT, PATIENCE, WIDTH, command, commands, free_ports

from dance_ondevice import __version__
from dance_ondevice.daemon.config.load import load
from dance_ondevice.daemon.control.webhook import post
from dance_ondevice.datasets.street import StreetCamera

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
MACHINES, SOLAR, OPENVINO = (
    GUIDES / f"{name}.md" for name in ("two-machines", "battery-and-solar", "openvino")
)
LABELLING, UPGRADING = GUIDES / "labelling.md", GUIDES / "upgrading.md"
PROMETHEUS = GUIDES / "prometheus.md"
FIRST_HOUR = GUIDES.parent / "first-hour.md"
RUN = "dance-ondevice run"

#: What is typed below, by guide.
WALKED = {
    MACHINES: (
        "dance-ondevice keys", "dance-ondevice config check", RUN, "scp keys/server.key keys/clients/door",
        "scp keys/server.key keys/clients/desk", "dance-ondevice stream", "dance-ondevice watch", "rm keys",
    ),
    SOLAR: (
        "dance-ondevice doctor", "dance-ondevice pause", "dance-ondevice resume", "dance-ondevice energy",
        "dance-ondevice simulate",
    ),
    OPENVINO: ("dance-ondevice models engines", "dance-ondevice energy"),
    UPGRADING: ("dance-ondevice backup", "dance-ondevice --version", "dance-ondevice restore"),
}  # fmt: skip
#: The other commands, and why nobody types them here.
LEFT = {
    "sudo": "needs systemd, root or a board",
    "git ": "needs the network",
    "v4l2-ctl": "needs a camera",
    "rpicam-vid": "needs a camera; tests/daemon/wire/test_sources.py has a pipe",
    "gst-launch-1.0": "needs a camera",
    "pip install": "the environment of this test has it",
    "dance-ondevice console": "needs a browser; tests/daemon/console/test_browser.py has one",
    "promtool": "tests/deploy has it check what is shipped",
    "dance-ondevice config check": "as in the guide to two machines, of a configuration in /etc",
}
KEYS = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", sorted(GUIDES.glob("*.md")), ids=lambda page: page.stem)
def test_the_settings_of_a_guide_are_valid(page: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    for number, text in enumerate(KEYS.findall(page.read_text())):
        site = tmp_path / f"{number}.toml"
        site.write_text(text)
        assert load(site).config


@pytest.mark.parametrize("page", sorted({*GUIDES.glob("*.md")} - {LABELLING}), ids=lambda page: page.stem)
def test_every_command_of_a_guide_is_walked_or_left_for_a_reason(page: Path) -> None:
    walked = {command(page, start) for start in WALKED.get(page, ())}
    assert [line for line in commands(page) if line not in walked and not line.startswith(tuple(LEFT))] == []


class Machines:
    """The board, the camera's machine and the desk: three folders of this machine."""

    def __init__(self, home: Path) -> None:
        self.board, self.camera, self.desk = (home / name for name in ("board", "camera", "desk"))
        for folder in (self.board, self.camera, self.desk, home / "runtime"):
            folder.mkdir(mode=0o700)
        ingest, masks = free_ports(2)
        self._words = {
            "0.0.0.0:5555": f"127.0.0.1:{ingest}",
            "0.0.0.0:5556": f"127.0.0.1:{masks}",
            "board:5555": f"127.0.0.1:{ingest}",
            "board:5556": f"127.0.0.1:{masks}",
            "/dev/video0": "frames",
            "scp ": "cp ",
            "pi@camera:": str(self.camera),
            "me@desk:": str(self.desk),
        }
        self._environ = {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "TERM": "dumb",
            "XDG_RUNTIME_DIR": str(home / "runtime"),
            "DANCE_CONFIG": str(self.board / "site.toml"),
            "DANCE_STATE_DIR": str(self.board / "state"),
        }

    def here(self, text: str) -> str:
        """A text of a page with what is another on this machine."""
        for word, own in self._words.items():
            text = text.replace(word, own)
        return text

    def type(self, page: Path, start: str, at: Path | None = None, *, code: int = 0) -> str:
        """Type a page's command at one of the machines, by default the board; returns what it prints."""
        process = self.start(page, start, at)
        printed, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, f"{start}: {process.returncode}\n{printed}"
        assert "Traceback" not in printed
        return str(printed)

    def start(self, page: Path, start: str, at: Path | None = None) -> subprocess.Popen[str]:
        """The same of a command that is not waited for."""
        return self._launch(page, start, at or self.board, subprocess.PIPE)

    @contextmanager
    def running(self, page: Path) -> Iterator[None]:
        """The page's daemon on the board until the end of the block."""
        log = self.board / "run.log"
        with log.open("w") as output:
            process = self._launch(page, RUN, self.board, output.fileno())
        try:
            deadline = time.monotonic() + PATIENCE
            while " ready " not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)  # another process is waited for
            yield
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(PATIENCE)
        assert "Traceback" not in log.read_text()

    def _launch(self, page: Path, start: str, at: Path, output: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", self.here(command(page, start))],
            cwd=at,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_guides_as_they_are_typed(tmp_path: Path) -> None:
    """CURVE between three machines; then what the other guides ask of the same daemon."""
    machines = Machines(tmp_path)
    street = StreetCamera(seed=1, height=HEIGHT, width=WIDTH)
    (machines.camera / "frames").mkdir()
    for number in range(4):
        cv2.imwrite(str(machines.camera / "frames" / f"{number:06d}.png"), street.render(number * 5)[0])

    machines.type(MACHINES, "dance-ondevice keys")
    (settings,) = KEYS.findall(MACHINES.read_text())
    site = machines.board / "site.toml"
    small = f'[model]\nsize = [{WIDTH}, {HEIGHT}]\n\n[metrics]\nlisten = "127.0.0.1:0"\n'
    site.write_text(f"{machines.here(settings)}\n{small}")
    assert "valid" in machines.type(MACHINES, "dance-ondevice config check")
    for start in ("scp keys/server.key keys/clients/door", "scp keys/server.key keys/clients/desk"):
        machines.type(MACHINES, start)
    assert not list((machines.board / "keys" / "clients").glob("*_secret"))

    with machines.running(MACHINES):
        watch = machines.start(MACHINES, "dance-ondevice watch", machines.desk)
        while watch.poll() is None:  # a mask may be made before the reader has come
            sent = machines.type(MACHINES, "dance-ondevice stream", machines.camera)
            assert re.search("^sent +4$", sent, re.M), sent
        printed, _ = watch.communicate()
        assert watch.returncode == 0, printed
        assert cv2.imread(str(machines.desk / "overlay.png")) is not None

        assert "meter" in machines.type(SOLAR, "dance-ondevice doctor")
        assert "paused" in machines.type(SOLAR, "dance-ondevice pause")
        assert "resumed" in machines.type(SOLAR, "dance-ondevice resume")
        assert "joules" in machines.type(SOLAR, "dance-ondevice energy").lower()
        assert "no labelled sample" in machines.type(SOLAR, "dance-ondevice simulate", code=1)
        assert "onnxruntime" in machines.type(OPENVINO, "dance-ondevice models engines")
        machines.type(OPENVINO, "dance-ondevice energy")
        machines.type(UPGRADING, "dance-ondevice backup")
        machines.type(MACHINES, "rm keys")
    assert __version__ in machines.type(UPGRADING, "dance-ondevice --version")
    machines.type(UPGRADING, "dance-ondevice restore")
    assert len(list((machines.board / "state-before" / "samples").rglob("*.png"))) > 0


def test_the_commands_of_labelling_are_those_of_the_first_hour() -> None:
    walked = {line.partition("  ")[0] for line in commands(FIRST_HOUR)}
    assert [
        line for line in commands(LABELLING) if line not in walked and not line.startswith("pip install")
    ] == []


def test_the_receiver_of_notices_takes_the_text_out_of_what_is_posted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = PROMETHEUS.read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    given, found = '("127.0.0.1", 8899), Notices).serve_forever()', re.search(r'^url = "(.*)"', page, re.M)
    assert found
    assert found[1] == "http://127.0.0.1:8899/"
    assert given in code
    names: dict[str, Any] = {}
    exec(code.replace(given, '("127.0.0.1", 0), Notices).server_close()'), names)
    notice = json.dumps({"host": "board", "kind": "warning", "text": "the store is full", "v": 1})
    with HTTPServer(("127.0.0.1", 0), names["Notices"]) as server:
        answering = Thread(target=server.handle_request)
        answering.start()
        post(f"http://127.0.0.1:{server.server_port}/", notice.encode())
        answering.join()
    assert "board warning the store is full" in capsys.readouterr().out
