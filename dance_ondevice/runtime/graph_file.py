"""A model's graph for onnxruntime, stored beside its weights, so that inference does not have to export it.

Exporting takes time and memory from the process that runs inference meanwhile. The file's name holds its
digest, and a file that does not match is not used. ``Runners`` compares its results with the model's, which
shows whether it is the graph of these weights.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from dance_ondevice.files import read_regular, write_durably

__all__ = ["read_graph", "write_graph"]

_STEM, _SUFFIX = "engine-", ".onnx"


def read_graph(folder: Path) -> bytes | None:
    """Read the graph in a version's folder; None if there is none, or it is damaged."""
    for file in sorted(folder.glob(f"{_STEM}*{_SUFFIX}")):
        with contextlib.suppress(OSError):
            graph = read_regular(file)
            if file.name == _name(graph):
                return graph
    return None


def write_graph(folder: Path, graph: bytes) -> None:
    """Write a graph to a version's folder, in place of any other.

    Raises:
        OSError: The graph cannot be written.
    """
    path = folder / _name(graph)
    write_durably(path, graph)
    for file in folder.glob(f"{_STEM}*{_SUFFIX}"):
        if file != path:
            file.unlink(missing_ok=True)


def _name(graph: bytes) -> str:
    return f"{_STEM}{hashlib.blake2b(graph, digest_size=16).hexdigest()}{_SUFFIX}"
