"""Compares the speed of inference engines on the same weights."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import torch
from torch import nn

from dance_ondevice.benchmarks.ingest.run import percentiles
from dance_ondevice.benchmarks.predict.report import EngineTime
from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.models.forward import channels_last
from dance_ondevice.runtime.folding import Folded
from dance_ondevice.runtime.formats import MissingPackage
from dance_ondevice.runtime.onnx_engine import OnnxEngine, graph_of

AS_TRAINED, MERGED, ONNX = "torch, as trained", "torch, merged", "onnxruntime"


def compare(
    model: nn.Module, size: tuple[int, int], *, passes: int, threads: Sequence[int]
) -> list[EngineTime]:
    """Time each engine, with each number of threads, on images of (height, width).

    The engines take turns, so that other load on the machine affects all of them alike.

    Args:
        model: Model in eval mode.
        size: (height, width) of the images.
        passes: Number of timed forward passes of each engine.
        threads: Numbers of threads to compare.
    """
    before = torch.get_num_threads()
    model = channels_last(model)
    merged = Folded(model).model
    modules = {(name, n): module for n in threads for name, module in ((AS_TRAINED, model), (MERGED, merged))}
    with contextlib.suppress(MissingPackage):  # an optional package
        graph, statistics = graph_of(model, size), conditions.capture(model)
        for n in threads:
            modules[ONNX, n] = OnnxEngine(model, graph, threads=n).module(statistics)
    x = torch.rand(1, 3, *size).to(memory_format=torch.channels_last)
    wall: dict[tuple[str, int], list[float]] = {key: [] for key in modules}
    cpu = dict.fromkeys(modules, 0.0)
    try:
        with torch.inference_mode():
            expected = model(x)
            found = {key: module(x) for key, module in modules.items()}
            for _ in range(passes):
                for key, module in modules.items():
                    torch.set_num_threads(key[1])
                    module(x)  # starting and ending threads is not timed
                    started, used = time.perf_counter(), time.process_time()
                    module(x)
                    cpu[key] += time.process_time() - used
                    wall[key].append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return [
        EngineTime(
            name=name,
            threads=n,
            ms=percentiles(wall[name, n]),
            cpu_ms=1e3 * cpu[name, n] / passes,
            max_difference=float((found[name, n] - expected).abs().max()),
        )
        for name, n in modules
    ]
