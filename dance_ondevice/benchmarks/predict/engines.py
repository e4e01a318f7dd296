"""The whole of a mask, engine by engine: the package's own model, dense and slimmed, at two scales."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dance_ondevice.benchmarks.ingest.run import percentiles
from dance_ondevice.benchmarks.predict.report import EngineTime
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.confusion import confusion_matrix, miou
from dance_ondevice.images.masks import Decide, Prediction, decide, decide_on_half_grid
from dance_ondevice.images.scaling import resize_for_inference
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.forward import channels_last, predict
from dance_ondevice.runtime.engines import NAMES, EngineName, installed
from dance_ondevice.runtime.formats import MissingPackage
from dance_ondevice.runtime.graph_file import ServingGraph
from dance_ondevice.runtime.serving import GraphServer, Server
from dance_ondevice.runtime.serving_graph import graph_of
from dance_ondevice.runtime.torch_server import TorchServer
from dance_ondevice.slimming.slim import slim

AS_TRAINED = "torch, as trained"
#: Share of the MACs that the slimmed model keeps, and the scales that it runs at.
SLIMMED_TO, SCALES = 0.45, (1.0, 0.75)
_FRAMES = 8

Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class _Way:
    """One way to make a mask, and the same way without its shortcuts."""

    name: str
    model: str
    scale: float
    threads: int
    mask: Callable[[Image, tuple[int, int]], Prediction]
    exact: Callable[[Image, tuple[int, int]], Prediction]

    def of(self, image: Image, size: tuple[int, int], *, exact: bool = False) -> Prediction:
        """The mask of (height, width) of an image that was brought to the scale before."""
        return (self.exact if exact else self.mask)(image, size)


def compare(
    model: nn.Module,
    card: ModelCard,
    size: tuple[int, int],
    *,
    passes: int,
    threads: Sequence[int],
    share: float = SLIMMED_TO,
) -> list[EngineTime]:
    """Time each way to make a mask on frames of (height, width), decoded and resized before.

    They take turns, so that a busy moment hits all. Each has its own thread pool, of the given numbers. The
    slimmed model keeps a share of the multiply-accumulates, a fraction of 1.
    """
    before = torch.get_num_threads()
    small = copy.deepcopy(model)
    slim(small, target_macs=round(share * count_macs(model, *size)), size=size)
    ways = [way for n in threads for way in _ways(model, small.eval(), card, size, n)]
    camera = StreetCamera(seed=0, height=size[0], width=size[1])
    scene = [camera.render(40 * index, "day") for index in range(_FRAMES)]
    frames = {scale: [resize_for_inference(image, scale) for image, _ in scene] for scale in SCALES}
    wall: list[list[float]] = [[] for _ in ways]
    cpu: list[list[float]] = [[] for _ in ways]
    try:
        for number in range(passes):
            for index, way in enumerate(ways):
                torch.set_num_threads(way.threads)
                image = frames[way.scale][number % _FRAMES]
                way.of(image, size)  # threads that come or go take their time
                started, used = time.perf_counter(), time.process_time()
                way.of(image, size)
                cpu[index].append(time.process_time() - used)
                wall[index].append(time.perf_counter() - started)
        torch.set_num_threads(1)
        labels = [label for _, label in scene]
        scores = [_scores(way, frames[way.scale], labels, len(card.classes)) for way in ways]
    finally:
        torch.set_num_threads(before)
    base = {way.threads: np.median(cpu[i]) for i, way in enumerate(ways) if way.name == AS_TRAINED}
    return [
        EngineTime(
            name=way.name,
            model=way.model,
            scale=way.scale,
            threads=way.threads,
            ms=percentiles(wall[index]),
            cpu_ms=1e3 * float(np.median(cpu[index])),
            cpu_ratio=float(np.median(cpu[index]) / base[way.threads]),
            miou=scores[index][0],
            miou_exact=scores[index][1],
            agreement=scores[index][2],
        )
        for index, way in enumerate(ways)
    ]


def _ways(
    dense: nn.Module, small: nn.Module, card: ModelCard, size: tuple[int, int], threads: int
) -> list[_Way]:
    plain = channels_last(copy.deepcopy(dense))
    exactly = partial(_by_torch, plain, card)
    found = [_Way(name=AS_TRAINED, model="dense", scale=1.0, threads=threads, mask=exactly, exact=exactly)]
    for name, model, scales in (("dense", dense, SCALES[:1]), ("slimmed", small, SCALES)):
        graph = _graph(model, size)
        for engine in (each for each in NAMES if installed(each)):
            if graph is None and engine != "torch":
                continue
            for scale in scales:
                mask, exact = (
                    partial(_by_server, _server(engine, model, card, size, by, graph=graph, threads=threads))
                    for by in (decide_on_half_grid, decide)
                )
                found.append(
                    _Way(name=engine, model=name, scale=scale, threads=threads, mask=mask, exact=exact)
                )
    return found


def _server(
    engine: EngineName,
    model: nn.Module,
    card: ModelCard,
    size: tuple[int, int],
    by: Decide,
    *,
    graph: ServingGraph | None,
    threads: int,
) -> Server:
    if engine == "torch" or graph is None:
        return TorchServer(channels_last(copy.deepcopy(model)), card.normalisation, size=size, by=by)
    return GraphServer(graph, engine, card.normalisation, threads=threads, by=by, often=1)


def _by_torch(model: nn.Module, card: ModelCard, image: Image, out_size: tuple[int, int]) -> Prediction:
    return predict(model, image, card.normalisation, out_size)


def _by_server(server: Server, image: Image, out_size: tuple[int, int]) -> Prediction:
    return server.predict(image, "", None, out_size)


def _graph(model: nn.Module, size: tuple[int, int]) -> ServingGraph | None:
    try:
        return graph_of(model, size)
    except MissingPackage:  # an extra: compared where it is
        return None


def _scores(
    way: _Way, frames: Sequence[Image], labels: Sequence[Image], n_classes: int
) -> tuple[float, float, float]:
    """The mIoU of a way, that of the same without its shortcuts, and the share of equal pixels."""
    matrices = [np.zeros((n_classes, n_classes), np.int64) for _ in range(2)]
    same = []
    for image, label in zip(frames, labels, strict=True):
        masks = [way.of(image, label.shape, exact=exact).mask for exact in (False, True)]
        matrices = [
            matrix + confusion_matrix(label, mask, n_classes)
            for matrix, mask in zip(matrices, masks, strict=True)
        ]
        same.append(np.mean(masks[0] == masks[1]))
    return miou(matrices[0]), miou(matrices[1]), float(np.mean(same))
