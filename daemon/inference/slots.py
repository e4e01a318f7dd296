"""Loading a version so that it can serve: checked, with an engine, its conditions, and warmed up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from dance_ondevice.conditions.arrays import ConditionArrays, shapes_in
from dance_ondevice.daemon.inference.condition_serving import VersionConditions
from dance_ondevice.daemon.versions import engine_graph
from dance_ondevice.daemon.versions.versions import check_intact
from dance_ondevice.models.card import CheckpointError, ModelCard, read_card
from dance_ondevice.policies.stream.conditions import BASE
from dance_ondevice.runtime.engine_table import EngineChoice, order
from dance_ondevice.runtime.engines import Device, EngineName, gpu_provider
from dance_ondevice.runtime.graph_file import ServingGraph
from dance_ondevice.runtime.heap import trim
from dance_ondevice.runtime.serving import GraphServer, Server, WithFallback

__all__ = ["DeviceChoice", "EstimateVersion", "ModelSlot", "load_slot"]

log = logging.getLogger(__name__)

#: What ``inference.device`` may be.
DeviceChoice: TypeAlias = Literal["auto", "cpu", "cuda"]
#: An engine and where it runs.
_Place: TypeAlias = tuple[EngineName, Device]

#: Asks for the statistics of a condition of the version in a folder, estimated from encoded images.
EstimateVersion = Callable[[Path, Sequence[bytes]], "Future[ConditionArrays]"]


@dataclass(frozen=True)
class ModelSlot:
    """A loaded version that is ready to run."""

    version: str
    card: ModelCard
    conditions: VersionConditions
    server: Server

    @property
    def engine(self) -> EngineName:
        """The engine that runs it now."""
        return self.server.name

    @property
    def device(self) -> Device:
        """Where it runs now."""
        return self.server.device


def load_slot(
    directory: Path,
    *,
    probation_every: int = 4,
    engine: EngineChoice = "torch",
    threads: int = 1,
    device: DeviceChoice = "cpu",
    estimate: EstimateVersion | None = None,
) -> ModelSlot:
    """Check and warm up a version, with its file of conditions.

    Args:
        directory: The version's folder.
        probation_every: New statistics of a condition serve one in so many frames.
        engine: The configured engine; if it does not run the version, the next best one does.
        threads: Number of CPU threads of a forward pass.
        device: Where it is to run; ``auto`` and ``cuda`` take the GPU if onnxruntime can use one.
        estimate: Estimates the statistics of conditions; None estimates none.

    Raises:
        CheckpointError: The folder does not hold a model that loads and runs.
    """
    log.info("model loads version=%s", directory.name)
    card = read_card(directory)
    try:
        check_intact(directory)
    except (OSError, ValueError) as error:
        raise CheckpointError(str(error)) from error
    graph, table = engine_graph.find_or_make(directory, engine, card.sha256)
    engines: Sequence[EngineName] = order(table, engine) if graph is not None else ["torch"]
    places: list[_Place] = [(name, "cpu") for name in engines]
    if graph is not None and _uses_gpu(device, engine):
        places.insert(0, ("onnxruntime", "cuda"))
    for row in table.engines if table else ():
        log.info(
            "engine measured name=%s cpu_ms=%s agreement=%s note=%s",
            row.engine, row.cpu_ms, row.agreement, row.note or "-",
        )  # fmt: skip
    server = _server(places, directory, card, graph, threads)
    conditions = VersionConditions(
        directory,
        card,
        server,
        shapes_in(directory),
        probation_every=probation_every,
        estimate=None if estimate is None else partial(estimate, directory),
    )
    warm = np.zeros((96, 128, 3), np.uint8)
    try:
        conditions.sets.predict(warm, BASE, BASE, out_size=(96, 128), label=None)
    except Exception as error:  # the model may be the user's own, and its code may raise anything
        raise CheckpointError(f"{directory}: the model does not run: {error!r}") from error
    trim()
    return ModelSlot(card.version or directory.name, card, conditions, server)


def _uses_gpu(device: DeviceChoice, engine: EngineChoice) -> bool:
    """Whether to try onnxruntime on the GPU; the CPU serves where that fails."""
    if device == "cpu":
        return False
    why = ""
    if engine not in {"auto", "onnxruntime"}:
        why = f"inference.engine is {engine}: only onnxruntime runs on a GPU"
    elif gpu_provider() is None:
        why = "this build of onnxruntime has no provider for GPUs: install onnxruntime-gpu, or Jetson's build"
    if why and device == "cuda":
        log.warning("inference on the CPU reason=%s", why)
    return not why


def _server(
    places: Sequence[_Place],
    directory: Path,
    card: ModelCard,
    graph: ServingGraph | None,
    threads: int,
) -> Server:
    """The first engine of a list, with the next ones to fall back to."""
    (name, device), *others = places
    if name == "torch" or graph is None:
        # Only here does the daemon load torch.
        from dance_ondevice.daemon.inference.last_resort import torch_server

        return torch_server(directory, threads)
    server = GraphServer(graph, name, card.normalisation, threads=threads, device=device)
    return WithFallback(server, partial(_server, others, directory, card, graph, threads))
