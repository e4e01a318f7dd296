"""Engines that run a graph without torch: what each needs to be installed, and how a session is opened."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.extras import install_command
from dance_ondevice.runtime.graph_file import GraphError

__all__ = [
    "ENGINES",
    "NAMES",
    "SIDES",
    "Device",
    "EngineName",
    "GraphEngine",
    "Run",
    "first_line",
    "gpu_provider",
    "import_onnxruntime",
    "import_openvino",
    "installed",
]

#: Function from a normalised image (1, 3, H, W) to coarse logits (1, C, h, w).
Run: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
#: Names of the engines, torch included, which is always there.
EngineName = Literal["torch", "onnxruntime", "openvino"]
NAMES: tuple[EngineName, ...] = get_args(EngineName)
#: Names of the open dimensions of a graph's input: height and width.
SIDES = ("height", "width")
#: Where an engine runs; only onnxruntime runs on a GPU.
Device = Literal["cpu", "cuda"]
#: onnxruntime's providers for NVIDIA GPUs, and the library of each. TensorRT's is the second choice: it
#: spends minutes on a graph before it runs.
_GPU_PROVIDERS = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}


@dataclass(frozen=True, kw_only=True)
class GraphEngine:
    """An engine that runs the graph of a version.

    Attributes:
        package: The module that it is imported by.
        extra: The extra of this package that installs it.
        open: Opens a session of a graph that may use so many threads, on a device, for images of one size or
            of any; raises anything.
    """

    package: str
    extra: str
    open: Callable[[bytes, int, Device, tuple[int, int] | None], Run]

    def session(
        self, graph: bytes, threads: int, device: Device = "cpu", size: tuple[int, int] | None = None
    ) -> Run:
        """Open a session of a graph.

        Args:
            graph: The bytes of an ONNX file.
            threads: Number of CPU threads that a pass may use; at least 1.
            device: Where it runs; "cuda" with onnxruntime alone, and only where ``gpu_provider`` finds one.
            size: Size (height, width) of all images, which spares computations; None for any size.

        Raises:
            GraphError: The engine is not installed or refuses the graph.
        """
        try:
            return self.open(graph, threads, device, size)
        except ImportError as error:
            raise GraphError(f"{self.package} is not installed: {install_command(self.extra)}") from error
        except Exception as error:  # the engines raise classes of their own, derived from Exception alone
            raise GraphError(f"{self.package} refuses the model: {first_line(error)}") from error


def installed(name: EngineName) -> bool:
    """Whether an engine can be imported; it is searched for, not imported."""
    return name == "torch" or importlib.util.find_spec(ENGINES[name].package) is not None


def import_onnxruntime() -> Any:
    """Import onnxruntime with its reports to its maker switched off.

    From 1.29 on its wheels keep an identifier of the machine and a database of events for Microsoft in the
    home folder. Whoever wants that sets ``ORT_DISABLE_TELEMETRY=0``.

    Raises:
        ImportError: It is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def import_openvino() -> Any:
    """Import OpenVINO with its reports to its maker switched off.

    It looks Google Analytics up at each import, by a package that it does without where that is missing.

    Raises:
        ImportError: It is not installed.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: not to be found
    import openvino

    return openvino


def gpu_provider() -> str | None:
    """The provider by which the installed onnxruntime uses an NVIDIA GPU; None if its build has none.

    Its files are looked at and nothing is imported, since another engine may be the one that serves.
    """
    found = importlib.util.find_spec("onnxruntime")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "capi"
    return next((name for name, file in _GPU_PROVIDERS.items() if (folder / file).is_file()), None)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, since some libraries add pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _onnxruntime(graph: bytes, threads: int, device: Device, size: tuple[int, int] | None) -> Run:
    onnxruntime = import_onnxruntime()
    gpu = gpu_provider() if device == "cuda" else None
    if device == "cuda" and gpu is None:
        raise GraphError("this build of onnxruntime has no provider for GPUs")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Planning a pass's memory beforehand takes more of it.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = device == "cpu"
    if device == "cpu":
        _share_memory(onnxruntime)
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 3
    # A thread that spins while it waits costs joules, and occupies a core that other threads need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, side in zip(SIDES, size or (), strict=False):
        options.add_free_dimension_override_by_name(name, side)
    providers = [*([gpu] if gpu else []), "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(graph, options, providers=providers)
    if (
        gpu and gpu not in session.get_providers()
    ):  # a library of CUDA is missing: it says so in its log alone
        raise GraphError(f"{gpu} did not load")

    how = onnxruntime.RunOptions()
    if device == "cpu" and size is None:  # rare sizes, one of which may be very large
        how.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(None, {"image": image}, how)[0]
        return found

    return run


@cache
def _share_memory(onnxruntime: Any) -> None:
    """Let the sessions of this process take a pass's memory from one pool, and give it back to that.

    Without a pool every pass of a large network asks the system for its memory and returns it: a quarter of
    its CPU time is spent in page faults. A pool for each session would hold as many working sets as there are
    sizes and conditions; this one holds the largest.
    """
    kind, where = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    # Older releases refuse a second pool where the program around has made one: that one is used then. Where
    # there is none, each session has its own.
    with contextlib.suppress(RuntimeError):
        onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, where), None)


def _openvino(graph: bytes, threads: int, device: Device, size: tuple[int, int] | None) -> Run:
    openvino = import_openvino()
    if device != "cpu":
        raise GraphError("OpenVINO runs on the CPU alone")
    core = openvino.Core()
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Whoever schedules this process knows which cores are free.
        "ENABLE_CPU_PINNING": False,
    }
    model = core.read_model(graph)
    if size is not None:
        model.reshape({"image": [1, 3, *size]})
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        # The result lies in the request's own memory, which the next pass overwrites.
        request.infer({"image": image}, share_inputs=True)
        found: NDArray[np.float32] = request.get_output_tensor(0).data
        return found

    return run


#: The engines in the order in which they are tried where nothing was measured.
ENGINES: Mapping[EngineName, GraphEngine] = {
    "onnxruntime": GraphEngine(package="onnxruntime", extra="onnx", open=_onnxruntime),
    "openvino": GraphEngine(package="openvino", extra="openvino", open=_openvino),
}
