"""The onnxruntime graph of a version, exported by a separate process where no round has written one.

As a program (``python -m dance_ondevice.daemon.versions.engine_graph FOLDER``) it exports the version in a
folder. It is a separate process because the exporter, needed for a second, would stay in the daemon's memory.
"""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dance_ondevice.runtime.graph_file import read_graph, write_graph

if TYPE_CHECKING:
    from dance_ondevice.runtime.runners import Engine

__all__ = ["find_or_export", "installed"]

log = logging.getLogger(__name__)

_SECONDS = 60.0


def installed() -> bool:
    """Whether onnxruntime and onnx are installed; they are searched for, not imported."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


def find_or_export(directory: Path, engine: Engine) -> bytes | None:
    """The graph of the version in a folder, exported if it is missing; None where that fails.

    Args:
        directory: The version's folder.
        engine: The configured engine; torch needs no graph.
    """
    if engine == "torch":
        return None
    if not installed():
        if engine == "onnxruntime":
            from dance_ondevice.runtime.formats import MissingPackage

            missing = MissingPackage("onnx and onnxruntime", "dance-ondevice[onnx]")
            log.warning("onnxruntime not used reason=%s", missing)
        return None
    graph = read_graph(directory)
    if graph is not None:
        return graph
    command = [sys.executable, "-m", "dance_ondevice.daemon.versions.engine_graph", str(directory)]
    try:
        subprocess.run(command, check=True, timeout=_SECONDS, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        log.warning("graph not exported folder=%s reason=%s", directory, lines[-1])
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("graph not exported folder=%s reason=%s", directory, error)
    return read_graph(directory)


def main(arguments: Sequence[str]) -> int:
    """Export the version in a folder."""
    from dance_ondevice.models import checkpoint
    from dance_ondevice.runtime.onnx_engine import graph_of

    folder = Path(arguments[0])
    model, card = checkpoint.load(folder)
    write_graph(folder, graph_of(model, card.macs_at))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
