"""Comparing the engines on this board, for one version: CPU time of a mask, and agreement with torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dance_ondevice.datasets.street import day_frames
from dance_ondevice.images.masks import Prediction, decide_on_half_grid
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import channels_last, predict
from dance_ondevice.runtime.engine_table import EngineRow, EngineTable, board, write_table
from dance_ondevice.runtime.engines import NAMES, EngineName, first_line, installed
from dance_ondevice.runtime.formats import ExportError
from dance_ondevice.runtime.graph_file import GraphError, ServingGraph, read_graph, write_graph
from dance_ondevice.runtime.serving import GraphServer, Server
from dance_ondevice.runtime.serving_graph import graph_of
from dance_ondevice.runtime.torch_server import TorchServer

__all__ = ["compare", "prepare"]

_FRAMES = 3
#: Number of masks that each engine makes, in turns, after one that warms it up.
_TURNS = 9


def prepare(
    folder: Path, model: nn.Module, card: ModelCard, clock: Callable[[], float] = time.process_time
) -> None:
    """Write the graph of a version into its folder, unless it is there, and the table of engines.

    Args:
        folder: The version's folder.
        model: The version's model in eval mode; other objects should not use it afterwards.
        card: The version's card.
        clock: Clock of CPU seconds.

    Raises:
        ExportError: The model cannot be exported; the table then names torch alone.
        OSError: A file cannot be written.
    """
    graph = read_graph(folder, card.sha256)
    failure: ExportError | None = None
    if graph is None:
        try:
            graph = graph_of(model, card.macs_at, card.sha256)
        except ExportError as error:
            failure = error
        else:
            write_graph(folder, graph)
    write_table(folder, compare(model, card, graph, clock=clock))
    if failure is not None:
        raise failure


def compare(
    model: nn.Module, card: ModelCard, graph: ServingGraph | None, *, clock: Callable[[], float]
) -> EngineTable:
    """Compare all engines that are installed, in turns, with one thread each.

    Args:
        model: Model in eval mode, on the CPU; other objects should not use it afterwards.
        card: The model's card.
        graph: Graph of the model; None if it cannot be exported.
        clock: Clock of CPU seconds.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = channels_last(model)
        frames = _frames(card.macs_at)
        expected = [predict(model, each, card.normalisation, by=decide_on_half_grid).mask for each in frames]
        servers: dict[EngineName, Server] = {}
        agreement: dict[EngineName, float] = {}
        notes: dict[EngineName, str] = {}
        for name in (name for name in NAMES if installed(name)):
            try:
                servers[name] = server = _server(name, model, card, graph)
                found = [_mask(server, frame) for frame in frames]
            except Exception as error:  # the engines raise classes of their own, derived from Exception alone
                servers.pop(name, None)
                notes[name] = first_line(error)
            else:
                same = [np.mean(one.mask == other) for one, other in zip(found, expected, strict=True)]
                agreement[name] = round(float(np.mean(same)), 5)
        seconds = _timed(servers, frames, clock)
    finally:
        torch.set_num_threads(threads)
    rows = [
        EngineRow(
            engine=name,
            cpu_ms=round(1e3 * statistics.median(seconds[name]), 3) if name in seconds else None,
            agreement=agreement.get(name),
            note=notes.get(name, ""),
        )
        for name in (*seconds, *notes)
    ]
    return EngineTable(model=card.sha256, board=board(), size=card.macs_at, engines=tuple(rows))


def _server(name: EngineName, model: nn.Module, card: ModelCard, graph: ServingGraph | None) -> Server:
    if name == "torch":
        return TorchServer(model, card.normalisation, size=card.macs_at)
    if graph is None:
        raise GraphError("the model cannot be exported")
    # As it is used: with a session that knows the size of the frames.
    return GraphServer(graph, name, card.normalisation, threads=1, often=1)


def _timed(
    servers: dict[EngineName, Server], frames: Sequence[NDArray[np.uint8]], clock: Callable[[], float]
) -> dict[EngineName, list[float]]:
    found: dict[EngineName, list[float]] = {name: [] for name in servers}
    for turn in range(_TURNS):
        for name, server in servers.items():
            started = clock()
            _mask(server, frames[turn % len(frames)])
            found[name].append(clock() - started)
    return found


def _mask(server: Server, frame: NDArray[np.uint8]) -> Prediction:
    return server.predict(frame, "", None, frame.shape[:2])


def _frames(size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    return day_frames(size, [7 * index for index in range(_FRAMES)])
