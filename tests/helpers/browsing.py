"""A real console in its own process, and a real Chromium that looks at it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from daemon_process import PATIENCE
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = (
    shutil.which(name) or shutil.which(other)
    for name, other in (("chromium", "chromium-browser"), ("chromedriver", "chromium.chromedriver"))
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="chromium and chromedriver are not installed (apt install chromium chromium-driver)",
)
_OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)


class Console:
    """Starts and stops one console on a port of its own."""

    def __init__(self, state: Path, log: Path, *options: str, listen: str = "127.0.0.1:0") -> None:
        self._log = log.open("wb")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "dance_ondevice", "console", "--listen", listen),
                *("--state-dir", str(state), *options),
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        #: The address that it prints, with the token.
        self.address = self.process.stdout.readline().strip()
        assert self.address, log.read_text()
        parts = urlsplit(self.address)
        self.root = f"{parts.scheme}://{parts.netloc}"
        self.token = parts.query.removeprefix("token=")

    def resident_bytes(self) -> int:
        """Memory that it takes now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.split("VmRSS:")[1].split()[0])

    def stop(self) -> int:
        self.process.terminate()
        status = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        return status


class Browser:
    """Chromium with a profile of its own."""

    def __init__(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for option in _OPTIONS.split():
            options.add_argument(option)
        options.add_argument(f"--user-data-dir={self._profile.name}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
        self.resize(width, height)
        if dark:
            self.driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia",
                {"features": [{"name": "prefers-color-scheme", "value": "dark"}]},
            )

    def resize(self, width: int, height: int) -> None:
        """Show pages as on a screen of this size; a narrow one is a telephone's."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def until(self, true: Callable[[], Any]) -> Any:
        """Look until it is so; what a page changes meanwhile is looked at again."""
        return WebDriverWait(self.driver, PATIENCE, 0.05, ignored_exceptions=_GONE).until(lambda _: true())

    def open(self, address: str) -> None:
        self.driver.get(address)

    @contextlib.contextmanager
    def another_tab(self) -> Iterator[None]:
        """Work in a new tab, which is closed at the end; this one is hidden meanwhile."""
        before = self.driver.current_window_handle
        self.driver.switch_to.new_window("tab")
        try:
            yield
        finally:
            self.driver.close()
            self.driver.switch_to.window(before)

    def log_in(self, console: Console) -> None:
        """Open the address that the console has printed."""
        self.open(console.address)
        self.until(lambda: "token" not in self.driver.current_url and self.all("nav a"))

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        return self.one(selector).text

    def run(self, script: str, *arguments: Any) -> Any:
        """The result of a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def errors(self) -> list[str]:
        """What the page's scripts and its security policy have complained about since the last look."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def close(self) -> None:
        self.driver.quit()
        self._profile.cleanup()


def _gone() -> tuple[type[Exception], ...]:
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

    return NoSuchElementException, StaleElementReferenceException


_GONE = _gone()
