"""The graph of a version and the table of its engines, made by a child where no round has written them.

As a program (``python -m dance_ondevice.daemon.versions.engine_graph FOLDER``) it exports the version in a
folder and compares the engines. It is a separate process because torch would stay in the daemon's memory.
"""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dance_ondevice.extras import install_command
from dance_ondevice.runtime.engine_table import EngineChoice, EngineTable, read_table
from dance_ondevice.runtime.engines import ENGINES, installed
from dance_ondevice.runtime.graph_file import ServingGraph, read_graph

__all__ = ["any_engine", "find_or_make"]

log = logging.getLogger(__name__)

#: The longest wait, shorter than a silence that is taken for a hang.
_SECONDS = 100.0


def any_engine(engine: EngineChoice) -> bool:
    """Whether the configured engine needs a graph, and an engine that runs it and the exporter are there.

    Args:
        engine: The configured engine.
    """
    if engine == "torch":
        return False
    wanted = tuple(ENGINES) if engine == "auto" else (engine,)
    return _exportable() and any(map(installed, wanted))


def find_or_make(
    directory: Path, engine: EngineChoice, model: str
) -> tuple[ServingGraph | None, EngineTable | None]:
    """The graph of the version in a folder and the table of its engines; made if one is missing.

    Args:
        directory: The version's folder.
        engine: The configured engine; torch needs no graph.
        model: SHA-256 of the version's tensors.
    """
    if not any_engine(engine):
        if engine != "auto" and engine != "torch":  # noqa: PLR1714 - mypy does not narrow a tuple
            log.warning(
                "%s not used reason=needs %s: %s",
                engine,
                "onnx and onnxruntime" if engine == "onnxruntime" else engine,
                install_command(ENGINES[engine].extra),
            )
        return None, None
    table = read_table(directory, model)
    # A model that cannot be exported has a table without a graph, and is not tried again.
    if table is None or (
        any(row.usable and row.engine != "torch" for row in table.engines)
        and read_graph(directory, model) is None
    ):
        _make(directory)
        table = read_table(directory, model)
    return read_graph(directory, model), table


def _exportable() -> bool:
    # The exporter's result is checked with onnxruntime.
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


def _make(directory: Path) -> None:
    command = [sys.executable, "-m", "dance_ondevice.daemon.versions.engine_graph", str(directory)]
    try:
        subprocess.run(command, check=True, timeout=_SECONDS, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        log.warning("graph not exported folder=%s reason=%s", directory, lines[-1])
    except subprocess.TimeoutExpired:
        log.warning(
            "graph not exported folder=%s reason=not done within %.0f s; it is tried again at the next start",
            directory,
            _SECONDS,
        )
    except OSError as error:
        log.warning("graph not exported folder=%s reason=%s", directory, error)


def main(arguments: Sequence[str]) -> int:
    """Export the version in a folder, and compare the engines."""
    from dance_ondevice.models import checkpoint
    from dance_ondevice.runtime.comparing import prepare

    folder = Path(arguments[0])
    prepare(folder, *checkpoint.load(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
