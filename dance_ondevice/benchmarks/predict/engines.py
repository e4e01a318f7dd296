"""The same weights run in several ways."""

from __future__ import annotations

import contextlib
import time

import torch
from torch import nn

from dance_ondevice import conditions
from dance_ondevice.benchmarks.ingest.run import percentiles
from dance_ondevice.benchmarks.predict.report import EngineTime
from dance_ondevice.models.layout import channels_last
from dance_ondevice.runtime.folding import Folded
from dance_ondevice.runtime.formats import MissingPackage
from dance_ondevice.runtime.onnx_engine import OnnxEngine, graph_of

AS_TRAINED, MERGED, ONNX = "torch, as trained", "torch, merged", "onnxruntime"


def compare(model: nn.Module, size: tuple[int, int], *, passes: int, threads: int) -> list[EngineTime]:
    """Time each engine on images of (height, width); they take turns, so that a busy moment hits all."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = channels_last(model)
        modules = {AS_TRAINED: model, MERGED: Folded(model).model}
        with contextlib.suppress(MissingPackage):  # an extra: compared where it is
            modules[ONNX] = OnnxEngine(model, graph_of(model, size), threads=threads).module(
                conditions.capture(model)
            )
        x = torch.rand(1, 3, *size).to(memory_format=torch.channels_last)
        wall: dict[str, list[float]] = {name: [] for name in modules}
        cpu = dict.fromkeys(modules, 0.0)
        with torch.inference_mode():
            found = {name: module(x) for name, module in modules.items()}
            for _ in range(passes):
                for name, module in modules.items():
                    started, used = time.perf_counter(), time.process_time()
                    module(x)
                    cpu[name] += time.process_time() - used
                    wall[name].append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return [
        EngineTime(
            name=name,
            ms=percentiles(wall[name]),
            cpu_ms=1e3 * cpu[name] / passes,
            max_difference=float((found[name] - found[AS_TRAINED]).abs().max()),
        )
        for name in modules
    ]
