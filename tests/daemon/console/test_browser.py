"""The console as people meet it: a real daemon, a real Chromium.

With DANCE_SCREENSHOTS=FOLDER frames are larger, a trained model serves, and pictures for the docs come there.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import pytest
import zmq
from browsing import Browser, Console, needs_chromium
from daemon_process import Daemon
from numpy.typing import NDArray
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from small_fleet import ROOT

from dance_ondevice.daemon.control.client import request
from dance_ondevice.daemon.rounds.fleet.box import BoxFacts, Judged
from dance_ondevice.daemon.security import kit
from dance_ondevice.daemon.wire.fleet_messages import BoardNews, Boards, Release, Synced
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images import codec as images
from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models.card import CARD_FILE, TENSORS_FILE

pytestmark = [pytest.mark.slow, needs_chromium]

#: A telephone held sideways, and a notebook's window at twice its size.
SHORT = ((844, 390), (640, 450))
PAGES = ("/", "/label", "/learning", "/samples", "/energy", "/fleet", "/health")
TELEPHONE = (390, 844)


class World:
    """A daemon, its console, a browser that has logged in, and frames to send."""

    def __init__(self, folder: Path, screenshots: Path | None) -> None:
        self.screenshots = screenshots
        self.daemon = Daemon(folder, inference=True)
        height, width = (240, 320) if screenshots else (48, 64)
        text = self.daemon.config.read_text()
        if screenshots:
            text = text.replace('size = [64, 48]\nweights = "untrained"', "size = [320, 240]")
        self.daemon.config.write_text(text + f'\n[fleet]\nkit = "{in_a_fleet(folder, self.daemon.state)}"\n')
        self.daemon.start()
        self.console = Console(self.daemon.state, folder / "console.log")
        self.browser = Browser()
        self._street = StreetCamera(seed=3, height=height, width=width)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sent = 0

    def send(self, count: int, *, labelled: bool, camera: str = "front") -> list[str]:
        """Send frames; returns the ids of those that were kept."""
        kept = []
        with self._context.socket(zmq.REQ) as channel:
            channel.linger = 0
            channel.rcvtimeo = 60_000
            channel.connect(self.daemon.facts["ingest"][0])
            for _ in range(count):
                self._sent += 1
                image, label = self._street.render(17 * self._sent)
                header = {
                    "v": 1,
                    "camera": camera,
                    "seq": self._sent,
                    "captured_at": 1_795_000_000.0 + 30 * self._sent,
                    "encoding": "jpeg",
                }
                parts = [json.dumps(header).encode(), images.encode_jpeg(image)]
                channel.send_multipart(parts + ([images.encode_png(label)] if labelled else []))
                reply: dict[str, Any] = json.loads(channel.recv())
                if reply["kept"]:
                    kept.append(reply["id"])
        return kept

    def label_of(self, sample: str) -> NDArray[np.uint8]:
        """The stored label, by a person in the browser."""
        database = sqlite3.connect(self.daemon.state / "dance.db")
        try:
            path, source = database.execute(
                "select label_path, label_source from samples where id = ?", [sample]
            ).fetchone()
        finally:
            database.close()
        assert source == "person"
        return images.decode_label((self.daemon.state / path).read_bytes())

    def tell_who_is_in(self) -> None:
        """What the link to the fleet's server brings now and then."""
        boards = (
            BoardNews(name="front", heard_s=3.0, version=3, gain=0.012, sent=781_000, received=2_300_000),
            BoardNews(name="harbour-north-entrance", heard_s=90_000.0, version=1, refused=3, gain=-0.004),
            BoardNews(name="yard", heard_s=40.0, waiting=True),
        )
        request(
            self.daemon.facts["fleet"],
            "fleet_boards",
            10.0,
            boards=msgspec.to_builtins(Boards(id=1, count=3, boards=boards)),
        )

    def page(self, path: str) -> Browser:
        """The browser, on a page."""
        self.browser.open(self.console.root + path)
        return self.browser

    def picture(self, name: str) -> None:
        """Leave a picture for the docs, if any are wanted."""
        if self.screenshots is not None:
            shown = images.decode_colour(self.browser.driver.get_screenshot_as_png())
            self.screenshots.mkdir(parents=True, exist_ok=True)
            (self.screenshots / f"console-{name}.jpg").write_bytes(images.encode_jpeg(shown, 85))

    def close(self) -> None:
        self.browser.close()
        self._context.term()
        assert self.console.stop() == 0
        assert self.daemon.stop() == 0


def in_a_fleet(folder: Path, state: Path) -> Path:
    """A board's kit, and what it knows of its fleet from earlier; its server is never reached."""
    model = folder / "root"
    model.mkdir()
    for name in (TENSORS_FILE, CARD_FILE):
        (model / name).write_bytes(b"x")
    away = "tcp://127.0.0.1:1"
    made = kit.write(folder / "fleet", ["front"], root=ROOT, model=model, bind=away, endpoint=away)
    names = {number: f"{number}" * 64 for number in (1, 2, 3)}
    facts = BoxFacts(
        news=Synced(id=0, published=Release(number=3, sha256=names[3], size=9), speaks=2),
        heard_at=1_795_000_000.0,
        judged=(
            Judged(sha256=names[1], number=1, outcome="taken", reason="mIoU 0.401 -> 0.413", gain=0.012),
            Judged(sha256=names[2], number=2, outcome="refused", reason="it costs too much here", gain=-0.04),
        ),
    )
    (state / "fleet").mkdir(parents=True)
    (state / "fleet" / "box.json").write_bytes(msgspec.json.encode(facts))
    return made.boards["front"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, screenshots: Path | None) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("console"), screenshots)
    try:
        made.browser.log_in(made.console)
        yield made
    finally:
        made.close()


def opened(browser: Browser) -> str:
    """Wait until a frame is open for correction; returns its id."""
    return str(browser.until(lambda: browser.one("#workshop").get_attribute("data-frame")))


def press(browser: Browser, x: float, y: float, *to: tuple[float, float]) -> None:
    """Tap at a point of the frame, in fractions of its sides, or draw from there to others."""
    paint = browser.one("#paint")
    # As it is seen, zoomed.
    width, height = browser.run(
        "const box = arguments[0].getBoundingClientRect(); return [box.width, box.height]", paint
    )

    def offset(at: tuple[float, float]) -> tuple[int, int]:
        return round((at[0] - 0.5) * width), round((at[1] - 0.5) * height)

    actions = ActionChains(browser.driver, duration=20)
    actions.move_to_element_with_offset(paint, *offset((x, y))).click_and_hold()
    for each in to:
        actions.move_to_element_with_offset(paint, *offset(each))
    actions.release().perform()


def around(label: NDArray[np.uint8], x: float, y: float) -> NDArray[np.uint8]:
    """The pixels of a label around a point in fractions of its sides: pointers are rounded."""
    height, width = label.shape
    top, left = round((y - 0.05) * height), round((x - 0.05) * width)
    return label[max(0, top) : top + height // 10, max(0, left) : left + width // 10]


def choose(browser: Browser, name: str, value: str | int) -> None:
    browser.run(
        "document.querySelector(`input[name='${arguments[0]}'][value='${arguments[1]}']`).click()",
        name,
        value,
    )


def test_a_wrong_token_is_refused_and_the_right_one_lets_in(world: World) -> None:
    browser = world.page("/")
    browser.driver.delete_all_cookies()
    world.page("/learning")
    assert browser.driver.current_url.endswith("/login")
    browser.one("#token").send_keys("not-the-token" + Keys.ENTER)
    browser.until(lambda: "not the token" in browser.text(".notice"))
    browser.errors()  # the refusal itself
    browser.one("#token").send_keys(world.console.token + Keys.ENTER)
    browser.until(lambda: browser.all("nav a[aria-current]"))
    (cookie,) = browser.driver.get_cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert browser.errors() == []


def test_the_live_page_goes_on_when_frames_come_and_when_the_daemon_is_killed_and_back(world: World) -> None:
    browser = world.page("/")
    world.send(2, labelled=False)
    browser.until(lambda: browser.one("[data-camera=front] .age").text)

    def shown() -> str:
        # The first frame is held once somebody watches.
        world.send(1, labelled=False)
        return str(browser.run("return document.querySelector('[data-camera=front] .frame')?.src ?? ''"))

    first = browser.until(shown)
    # More tabs than a browser has connections to a server: those behind others hold none.
    with contextlib.ExitStack() as tabs:
        for _ in range(7):
            tabs.enter_context(browser.another_tab())
            world.page("/")
            browser.until(lambda: browser.all("[data-camera=front]"))
    browser.until(lambda: shown() not in ("", first))
    browser.until(lambda: browser.run("return document.querySelector('[data-camera=front] .mask').width") > 1)
    assert browser.one("[data-camera=front] .decision").text in ("kept", "dropped")
    assert browser.all("[data-camera=front] .legend li")
    world.picture("live")
    assert browser.errors() == []

    world.daemon.stop(signal.SIGKILL)
    browser.until(lambda: "systemctl start dance-ondevice" in browser.text("#gone"))
    elsewhere = world.page("/learning")
    assert "No daemon runs" in elsewhere.text()
    world.page("/")
    world.daemon.start()
    browser.until(lambda: browser.all("#cameras"))
    browser.until(shown)
    browser.errors()  # what could not be had meanwhile


def test_a_label_by_three_taps_and_a_stroke_teaches_and_the_new_version_can_be_rolled_back(
    world: World,
) -> None:
    world.send(40, labelled=True)
    world.send(8, labelled=False)
    browser = world.page("/label")
    sample = opened(browser)
    for number, (x, y) in ((3, (0.5, 0.9)), (0, (0.5, 0.08)), (1, (0.05, 0.35))):
        choose(browser, "class", number)
        press(browser, x, y)
    choose(browser, "tool", "brush")
    choose(browser, "class", 4)
    press(browser, 0.02, 0.57, (0.2, 0.55))
    press(browser, 0.9, 0.6, (0.9, 1.04), (0.7, 1.04))
    assert browser.text("#score").startswith("5 taps")
    assert float(browser.one("#workshop").get_attribute("data-tap-ms") or "nan") > 0
    world.picture("label")
    browser.one("#save").click()
    browser.until(lambda: browser.one("#workshop").get_attribute("data-frame") not in (None, "", sample))
    label = world.label_of(sample)
    assert set(np.unique(label)) <= {0, 1, 3, 4, IGNORE}
    # The last region that was tapped, and the stroke over it.
    assert (around(label, 0.05, 0.35) == 1).any()
    assert (around(label, 0.11, 0.56) == 4).any()
    # A stroke that leaves the image reaches its border.
    at = round(0.9 * label.shape[1])
    assert (label[-1, at - 2 : at + 2] == 4).any()
    # Where it goes on beyond it, it paints nothing.
    assert not (label[-1, round(0.7 * label.shape[1]) : at - 10] == 4).any()

    before = world.daemon.ask("status")["version"]
    world.page("/learning")
    browser.one("form[action='/learning/train_now'] button").click()
    status = world.daemon.wait_until(lambda status: status["version"] != before)
    browser.until(lambda: browser.text("#now-title") == f"Live: {status['version']}")
    browser.until(lambda: browser.all(".timeline .promoted"))
    world.picture("learning")
    world.page(f"/learning/version/{status['version']}")
    assert "Promoted" in browser.text()
    world.page("/")
    browser.until(lambda: status["version"] in browser.text("#state"))

    world.page("/learning")
    browser.one("form[action='/learning/rollback'] button").click()
    world.daemon.wait_until(lambda status: status["version"] == before)
    browser.until(lambda: browser.text("#now-title") == f"Live: {before}")
    # What was asked of a daemon that was stopped since has no answer; the page is there all the same.
    world.page("/learning?request=987654")
    assert browser.text("#now-title") == f"Live: {before}"
    assert browser.errors() == []


def test_two_people_at_one_frame_lose_nothing(world: World) -> None:
    sample = world.send(6, labelled=False)[-1]
    browser, other = world.browser, Browser()
    try:
        other.log_in(world.console)
        for each, number, y in ((browser, 3, 0.9), (other, 0, 0.05)):
            each.open(f"{world.console.root}/label?id={quote(sample)}")
            opened(each)
            choose(each, "tool", "brush")
            choose(each, "class", number)
            press(each, 0.4, y, (0.6, y))
        browser.one("#save").click()
        browser.until(lambda: browser.one("#workshop").get_attribute("data-frame") != sample)
        # The other's login ends meanwhile; another one, in another tab, is all that is missing.
        other.driver.delete_all_cookies()
        other.one("#save").click()
        other.until(lambda: "the login has ended" in other.text("#message"))
        with other.another_tab():
            other.log_in(world.console)
        other.one("#save").click()
        other.until(lambda: other.one("#conflict").is_displayed())
        other.one("#conflict button[value=both]").click()
        other.until(lambda: other.one("#workshop").get_attribute("data-frame") != sample)
    finally:
        other.close()
    assert set(np.unique(world.label_of(sample))) == {0, 3, IGNORE}


def test_the_keyboard_alone_labels_a_frame(world: World) -> None:
    sample = world.send(4, labelled=False)[-1]
    browser = world.page(f"/label?id={quote(sample)}")
    opened(browser)
    paint = browser.one("#paint")
    browser.run("arguments[0].focus()", paint)
    paint.send_keys("5", "b", Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    assert browser.one("input[name=class]:checked").get_attribute("value") == "4"
    assert not browser.text("#score").startswith("0 taps")
    # Leaving it unsaved asks first, and again once there is more to lose.
    paint.send_keys("n", Keys.ARROW_DOWN, Keys.ENTER, "n")
    assert "not saved" in browser.text("#message")
    assert browser.one("#workshop").get_attribute("data-frame") == sample
    # A key that is held down saves once, and is no second person at the same frame.
    paint.send_keys("s", "s", "s")
    browser.until(lambda: browser.one("#workshop").get_attribute("data-frame") != sample)
    assert not browser.one("#conflict").is_displayed()
    assert set(np.unique(world.label_of(sample))) == {4, IGNORE}


def test_pages_fit_a_telephone_and_keep_axes_rules(world: World, axe: str) -> None:
    sample = world.send(4, labelled=True)[0]
    world.send(12, labelled=False)
    world.send(1, labelled=False, camera="north-" * 10 + "gate")
    browser = world.browser
    broken: dict[str, list[str]] = {}
    for narrow in (False, True):
        browser.resize(*(TELEPHONE if narrow else (1280, 900)))
        for path in (*PAGES, f"/samples/{quote(sample)}", "/no-such-page"):
            if path == "/fleet":
                world.tell_who_is_in()
            world.page(path)
            if path == "/fleet":
                shown = browser.text()
                for words in ("harbour-north-entrance", "refused 3", "+1.2", "781.0 kB", "Version 2"):
                    assert words in shown, shown
            if path == "/label":
                opened(browser)
            name = f"{path} {'narrow' if narrow else 'wide'}"
            browser.run(axe)
            found = browser.driver.execute_async_script(
                "const done = arguments[arguments.length - 1];"
                "axe.run(document, {resultTypes: ['violations']})"
                ".then((r) => done(r.violations.map((v) => `${v.id}: ${v.nodes[0].html}`)))"
            )
            wide = browser.run("return document.documentElement.scrollWidth - window.innerWidth")
            broken[name] = found + ([f"{wide} pixels too wide"] if wide > 0 else [])
            if narrow and path in ("/", "/label"):
                world.picture("live-phone" if path == "/" else "label-phone")
            elif path == "/fleet" and not narrow:
                world.picture("fleet")
    for size in SHORT:
        browser.resize(*size)
        for path in PAGES:
            world.page(path)
            if path == "/label":
                opened(browser)
                below = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom"
                assert browser.run(below, "#save") <= browser.run(below, ".panel")
            wide = browser.run("return document.documentElement.scrollWidth - window.innerWidth")
            if wide > 0:
                broken[f"{path} at {size}"] = [f"{wide} pixels too wide"]
    browser.resize(1280, 900)
    world.page("/")
    wide = browser.until(
        lambda: browser.run(
            "return [...document.querySelectorAll('.camera')].map((c) => c.scrollWidth - c.clientWidth)"
        )
    )
    assert max(wide) <= 0
    assert {name: found for name, found in broken.items() if found} == {}


def test_a_backup_is_made_and_downloaded_and_joules_are_shown_by_hour(world: World) -> None:
    world.send(3, labelled=False)
    browser = world.page("/energy")
    browser.errors()  # of what another test looked for
    browser.until(lambda: browser.all("section[aria-labelledby='hours-title'] svg.chart rect"))
    world.page("/health")
    browser.one("form[action='/health/backup'] button").click()
    browser.until(lambda: browser.all("a[href='/health/backup.tar']"))
    size = browser.driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        # As download managers ask first, which must not be taken for the download.
        "fetch('/health/backup.tar', {method: 'HEAD'}).then(() => fetch('/health/backup.tar'))"
        ".then((r) => r.arrayBuffer())"
        ".then((b) => done([b.byteLength, String.fromCharCode(...new Uint8Array(b, 257, 5))]))"
    )
    assert size[0] > 10_000
    assert size[1] == "ustar"
    world.page("/health")
    assert browser.all("form[action='/health/backup'] button")
    assert not (world.daemon.state / ".backup").exists()
    assert browser.errors() == []


@pytest.mark.usefixtures("uncounted")
def test_it_takes_little_memory_and_the_first_page_little_time(world: World) -> None:
    browser = world.page("/")
    timing = browser.run(
        "const t = performance.getEntriesByType('navigation')[0];"
        "return [t.responseEnd, t.domContentLoadedEventEnd]"
    )
    print(f"first page: answered in {timing[0]:.0f} ms, shown in {timing[1]:.0f} ms")
    print(f"resident: {world.console.resident_bytes() / 1e6:.1f} MB")
    assert world.console.resident_bytes() < 60 << 20
