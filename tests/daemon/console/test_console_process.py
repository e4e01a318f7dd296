"""The console as a process, without a daemon and without a browser."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from browsing import Console

pytestmark = pytest.mark.slow

HTML = {"Accept": "text/html"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read().decode()


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("console")
    started = Console(folder / "state", folder / "console.log")
    yield started
    assert started.stop() == 0


def ask(
    console: Console, method: str, path: str, headers: Mapping[str, str] | None = None, body: str = ""
) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(console.root).netloc, timeout=30)
    try:
        connection.request(method, path, body or None, dict(headers or {}))
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def cookie(console: Console) -> str:
    entered = ask(console, "GET", f"/?token={console.token}", HTML)
    assert entered.status == 200
    given = entered.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= set(given.split("; "))
    return given.split(";")[0]


def test_nothing_but_health_answers_without_a_login(console: Console) -> None:
    health = ask(console, "GET", "/healthz")
    assert (health.status, health.body) == (200, "ok")
    for path in ("/", "/live/events", "/samples", "/static/x/live.js", "/no-such-page", "/label/frames"):
        assert ask(console, "GET", path).status == 401, path
        led = ask(console, "GET", path, HTML)
        assert (led.status, led.headers["location"]) == (303, "/login"), path
    assert ask(console, "POST", "/learning/pause", FORM, "csrf=x").status == 401
    assert ask(console, "GET", "/", {"Cookie": "dance_console=1.2.3"}).status == 401


def test_every_answer_is_strict_about_scripts_and_is_not_stored(console: Console, cookie: str) -> None:
    for path in ("/healthz", "/login", "/", "/samples", "/no-such-page"):
        headers = ask(console, "GET", path, {**HTML, "Cookie": cookie}).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_no_page_holds_a_script_or_style_of_its_own(console: Console, cookie: str) -> None:
    for path in ("/login", "/samples", "/no-such-page"):
        page = ask(console, "GET", path, {**HTML, "Cookie": cookie}).body
        assert "style=" not in page
        assert "onclick" not in page
        assert "http://" not in page
        assert "https://" not in page


def test_without_a_daemon_each_page_says_what_to_do(console: Console, cookie: str) -> None:
    for path in ("/", "/label", "/learning", "/samples", "/energy", "/fleet", "/health"):
        page = ask(console, "GET", path, {**HTML, "Cookie": cookie})
        assert page.status == 503
        assert "dance-ondevice run" in page.body
    assert ask(console, "GET", "/label/frames", {"Cookie": cookie}).status == 503


def test_changes_need_the_secret_of_the_session(console: Console, cookie: str) -> None:
    page = ask(console, "GET", "/", {**HTML, "Cookie": cookie}).body
    csrf = page.split('name="csrf" content="')[1].split('"')[0]
    sent = {**FORM, "Cookie": cookie}
    assert ask(console, "POST", "/learning/pause", sent, "csrf=" + "0" * 48).status == 403
    assert ask(console, "POST", "/learning/pause", sent).status == 403
    foreign = {**sent, "Sec-Fetch-Site": "cross-site"}
    assert ask(console, "POST", "/learning/pause", foreign, urlencode({"csrf": csrf})).status == 403
    # With it the change is passed on, to a daemon that is not there.
    assert ask(console, "POST", "/learning/pause", sent, urlencode({"csrf": csrf})).status == 503
    assert ask(console, "POST", "/learning/format_disk", sent, urlencode({"csrf": csrf})).status == 404
    assert ask(console, "POST", "/logout", sent, urlencode({"csrf": csrf})).headers["location"] == "/login"


def test_bodies_are_bounded(console: Console, cookie: str) -> None:
    large = ask(console, "POST", "/login", FORM, "token=" + "x" * 2_000_000)
    assert large.status == 413


def test_an_address_that_is_taken_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "dance_ondevice", "console", "--listen", listen]
        command += ["--state-dir", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "end the console that runs there, or give another --listen" in done.stderr


def test_wrong_tokens_are_refused_and_then_made_to_wait(tmp_path: Path) -> None:
    console = Console(tmp_path / "state", tmp_path / "console.log")
    try:
        assert (tmp_path / "state" / "console.token").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "state" / "console.token").read_text().strip() == console.token
        statuses = [ask(console, "POST", "/login", FORM, f"token=wrong{n}").status for n in range(6)]
        assert statuses == [403] * 5 + [429]
        right = ask(console, "POST", "/login", FORM, urlencode({"token": console.token}))
        assert right.status == 429
        assert int(right.headers["retry-after"]) > 0
    finally:
        assert console.stop() == 0
    assert "wrong" not in (tmp_path / "console.log").read_text().replace("wrong token", "")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--listen", "0.0.0.0:0"], "--tls-cert"),
        (["--listen", "nonsense"], "HOST:PORT"),
        (["--listen", "127.0.0.1:0", "--tls-cert", "a.pem"], "belong together"),
    ],
)
def test_wrong_use_is_refused_with_what_to_do(tmp_path: Path, options: list[str], expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dance_ondevice", "console", "--state-dir", str(tmp_path), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert expected in done.stderr
    assert not (tmp_path / "console.token").exists()
