"""A model's graph for serving, stored beside its weights, with the places of the tensors that conditions set.

Making one needs torch and takes seconds, so a child process does it. Setting the statistics of a condition
needs neither torch nor onnx: they are overwritten where they lie in the file. As inputs of a session they
would double the time of a mask, since engines merge them into weights only if they are constant.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from dance_ondevice.conditions.arrays import ConditionArrays
from dance_ondevice.documents import DocumentError, decode
from dance_ondevice.files import write_durably

__all__ = ["GraphError", "ServingGraph", "read_graph", "write_graph"]

_STEM, _SUFFIX, _ABOUT = "engine-", ".onnx", ".json"
_BYTES = 4  # of a float32


class GraphError(RuntimeError):
    """Error: an engine cannot run a graph, or not with these values; the message says why."""


class _About(msgspec.Struct, frozen=True, kw_only=True):
    """The file beside a graph: see ``ServingGraph``."""

    model: str
    places: dict[str, tuple[int, int]]
    learnt: bool


@dataclass(frozen=True, eq=False)
class ServingGraph:
    """An ONNX graph from an image (1, 3, H, W) float32 to logits (1, C, h, w), with the model's own values.

    Attributes:
        onnx: The graph; its input is ``image``.
        model: SHA-256 of the tensors file that it was made from.
        places: Offset in bytes and number of values (float32) of each tensor that a condition may set, by the
            name that it has in the model. Parts that inference does not run are not in it.
        learnt: Whether the parameters that a condition may learn can be set as well; this was tried.
    """

    onnx: bytes
    model: str
    places: Mapping[str, tuple[int, int]]
    learnt: bool

    def of(self, condition: ConditionArrays | None) -> bytes:
        """The graph with the values of a condition; None stands for the model's own.

        Raises:
            GraphError: The values are of other layers, or cannot be set in this graph.
        """
        if condition is None:
            return self.onnx
        if condition.learnt and not self.learnt:
            raise GraphError("what a condition has learnt cannot be set in this graph")
        changed = bytearray(self.onnx)
        for name, array in condition.by_name().items():
            place = self.places.get(name)
            if place is None:
                continue
            offset, count = place
            if array.size != count:
                raise GraphError(f"{name} has {array.size} values, the graph {count}")
            changed[offset : offset + _BYTES * count] = np.ascontiguousarray(array, "<f4").tobytes()
        return bytes(changed)


def read_graph(folder: Path, model: str) -> ServingGraph | None:
    """Read the graph in a version's folder; None if there is none, it is damaged, or of another model.

    Args:
        folder: The version's folder.
        model: SHA-256 of the version's tensors.
    """
    for file in sorted(folder.glob(f"{_STEM}*{_SUFFIX}")):
        with contextlib.suppress(OSError, DocumentError):
            graph = file.read_bytes()
            about = decode(file.with_suffix(_ABOUT).read_bytes(), _About)
            if file.stem == _name(graph, about) and about.model == model:
                return ServingGraph(graph, about.model, about.places, about.learnt)
    return None


def write_graph(folder: Path, graph: ServingGraph) -> None:
    """Write a graph to a version's folder, in place of any other.

    Raises:
        OSError: The graph cannot be written.
    """
    about = _About(model=graph.model, places=dict(graph.places), learnt=graph.learnt)
    path = folder / f"{_name(graph.onnx, about)}{_SUFFIX}"
    write_durably(path.with_suffix(_ABOUT), msgspec.json.encode(about))
    write_durably(path, graph.onnx)
    for file in folder.glob(f"{_STEM}*"):
        if file.stem != path.stem:
            file.unlink(missing_ok=True)


def _name(graph: bytes, about: _About) -> str:
    digest = hashlib.blake2b(graph, digest_size=16)
    digest.update(msgspec.json.encode(about))
    return f"{_STEM}{digest.hexdigest()}"
