"""Engines that run a graph without torch: what each needs to be installed, and how a session is opened."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.runtime.graph_file import GraphError

__all__ = ["ENGINES", "NAMES", "EngineName", "GraphEngine", "Run", "first_line", "installed"]

#: Function from a normalised image (1, 3, H, W) to coarse logits (1, C, h, w).
Run: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
#: Names of the engines, torch included, which is always there.
EngineName = Literal["torch", "onnxruntime", "openvino"]
NAMES: tuple[EngineName, ...] = get_args(EngineName)


@dataclass(frozen=True, kw_only=True)
class GraphEngine:
    """An engine that runs the graph of a version.

    Attributes:
        package: The module that it is imported by.
        extra: The extra of this package that installs it.
        open: Opens a session of a graph that may use so many threads; raises anything.
    """

    package: str
    extra: str
    open: Callable[[bytes, int], Run]

    def session(self, graph: bytes, threads: int) -> Run:
        """Open a session of a graph.

        Args:
            graph: The bytes of an ONNX file.
            threads: Number of CPU threads that a pass may use; at least 1.

        Raises:
            GraphError: The engine is not installed or refuses the graph.
        """
        try:
            return self.open(graph, threads)
        except ImportError as error:
            raise GraphError(
                f"{self.package} is not installed: pip install 'dance-ondevice[{self.extra}]'"
            ) from error
        except Exception as error:  # the engines raise classes of their own, derived from Exception alone
            raise GraphError(f"{self.package} refuses the model: {first_line(error)}") from error


def installed(name: EngineName) -> bool:
    """Whether an engine can be imported; it is searched for, not imported."""
    return name == "torch" or importlib.util.find_spec(ENGINES[name].package) is not None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, since some libraries add pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _onnxruntime(graph: bytes, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    # A thread that spins while it waits costs joules, and occupies a core that other threads need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(None, {"image": image})[0]
        return found

    return run


def _openvino(graph: bytes, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Whoever schedules this process knows which cores are free.
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()

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
