"""Progress while the demonstration runs: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

#: Seconds between two plain lines of the same stage.
_PLAIN_SECONDS = 5.0


class Display:
    """Shows the stage, the time used and a few facts. Use it as a context manager."""

    def __init__(
        self, console: Console, max_seconds: float, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._max_seconds = max_seconds
        self._monotonic = monotonic
        self._start = monotonic()
        self._stage = ""
        self._printed_at = float("-inf")
        self._spinner = Spinner("dots")
        self._live = (
            Live(console=console, transient=True, refresh_per_second=8) if console.is_terminal else None
        )

    def __enter__(self) -> Display:
        """Start the live panel, if the output is a terminal."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the live panel."""
        if self._live is not None:
            self._live.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the display was made."""
        return self._monotonic() - self._start

    def show(self, stage: str, facts: Mapping[str, object]) -> None:
        """Show the present stage and facts; plain lines of the same stage are limited in number."""
        changed, self._stage = stage != self._stage, stage
        if self._live is not None:
            self._live.update(self._panel(stage, facts))
        elif changed or self._monotonic() - self._printed_at >= _PLAIN_SECONDS:
            self._printed_at = self._monotonic()
            words = ", ".join(f"{name} {value}" for name, value in facts.items())
            line = f"[{self.elapsed:4.0f} s] {stage}" + (f": {words}" if words else "")
            self._console.print(Text(line), soft_wrap=True)

    def _panel(self, stage: str, facts: Mapping[str, object]) -> Group:
        self._spinner.update(text=Text(f" {stage}", style="bold"))
        head = Table.grid(padding=(0, 2))
        head.add_row(
            self._spinner,
            ProgressBar(total=self._max_seconds, completed=min(self.elapsed, self._max_seconds), width=32),
            Text(f"{self.elapsed:.0f} of at most {self._max_seconds:.0f} s", style="dim"),
        )
        body = Table.grid(padding=(0, 2))
        for name, value in facts.items():
            body.add_row(Text(f"  {name}", style="dim"), Text(str(value)))
        return Group(head, body)
