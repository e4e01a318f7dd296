"""What a tap means: the console's own code, which runs in a browser there and in node here."""

from __future__ import annotations

import base64
import contextlib
import subprocess
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["Taps", "TapsError"]

Mask = NDArray[np.uint8]


class TapsError(RuntimeError):
    """Error: node is not installed, or the page's code cannot be run by it."""


class Taps:
    """Owner of a process of node with the page's code; a context manager, for one thread.

    Raises:
        TapsError: Node cannot be started.
    """

    def __init__(self, node: str = "node") -> None:
        page = resources.files("dance_ondevice.daemon.console") / "static" / "masks.js"
        command = [node, str(Path(__file__).with_name("taps.mjs")), str(page)]
        #: Seconds that the page's code took for the last answer, and of them those of the processor.
        self.seconds = self.cpu_seconds = 0.0
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise TapsError(
                f"cannot start {node}: {error.strerror}; the page's code, which decides what a tap means, "
                "runs in Node.js here: install it (Debian: apt install nodejs)"
            ) from error

    def __enter__(self) -> Taps:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, bgr: Mask) -> None:
        """Show an image (h, w, 3) BGR; its edges cut the pieces from here on.

        Raises:
            TapsError: Node has ended.
        """
        height, width = bgr.shape[:2]
        rgba = np.dstack([bgr[..., ::-1], np.full((height, width), 255, np.uint8)])
        self._ask({"rgba": _packed(rgba), "width": width, "height": height})

    def piece(self, shown: Mask, y: int, x: int) -> NDArray[np.bool_]:
        """Which pixels (h, w) a tap at row ``y`` and column ``x`` means, on a mask (h, w) as it is shown.

        Raises:
            TapsError: Node has ended.
        """
        answer = self._ask({"mask": _packed(shown), "start": y * shown.shape[1] + x})
        indices = np.frombuffer(base64.b64decode(answer["piece"]), np.int32)
        found = np.zeros(shown.size, np.bool_)
        found[indices] = True
        return found.reshape(shown.shape)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise TapsError("node ended; what it said about the page's code stands above")
        answer: dict[str, Any] = msgspec.json.decode(line)
        self.seconds, self.cpu_seconds = answer["ms"] / 1e3, answer["cpuMs"] / 1e3
        return answer


def _packed(array: Mask) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
