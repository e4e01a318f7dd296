"""Where a graph runs, a GPU that works or else the CPU with the reason, and what its libraries may do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dance_ondevice.runtime import devices, engines
from dance_ondevice.runtime.devices import LEAST_FREE, Chosen, choose, lowered_precision
from dance_ondevice.runtime.graph_file import GraphError


@dataclass
class Gpu:
    """Answers as ``torch.cuda`` does for a GPU."""

    free: int = 4 << 30
    total: int = 8 << 30
    works: bool = True
    fractions: list[float] = field(default_factory=list)

    def mem_get_info(self) -> tuple[int, int]:
        return self.free, self.total

    def try_out(self, device: torch.device) -> None:
        if not self.works:
            raise RuntimeError("CUDA error: no kernel image is available for execution\nmore lines")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    made = Gpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", made.mem_get_info)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", made.fractions.append)
    monkeypatch.setattr(devices, "_try_out", made.try_out)
    return made


def test_without_a_gpu_only_who_asked_for_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose("cpu") == choose("auto") == Chosen("cpu")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in choose("cuda").reason
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert choose("cuda") == Chosen("cpu", "torch sees no GPU")


def test_a_gpu_is_used_within_its_free_memory(gpu: Gpu) -> None:
    assert choose("auto") == choose("cuda") == Chosen("cuda")
    assert gpu.fractions == [pytest.approx(0.45)] * 2, "nine tenths of the half that is free"
    assert choose("cpu") == Chosen("cpu")


def test_a_gpu_without_memory_or_one_that_does_not_work_gives_its_reason(gpu: Gpu) -> None:
    gpu.free = LEAST_FREE - 1
    assert choose("auto") == Chosen("cpu", "the GPU has 511 MB free, 512 MB are needed")
    gpu.free, gpu.works = LEAST_FREE, False
    reason = "the GPU does not work: CUDA error: no kernel image is available for execution"
    assert choose("auto") == Chosen("cpu", reason)


@pytest.mark.parametrize(
    ("bf16", "capability", "expected"),
    [(True, (8, 7), "bf16"), (False, (7, 2), "fp16"), (False, (5, 3), "fp32")],
)
def test_half_precision_where_the_gpu_has_units_for_it(
    bf16: bool, capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert lowered_precision() == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], None),
        (["libonnxruntime_providers_tensorrt.so"], "TensorrtExecutionProvider"),
        (
            ["libonnxruntime_providers_tensorrt.so", "libonnxruntime_providers_cuda.so"],
            "CUDAExecutionProvider",
        ),
    ],
)
def test_the_provider_is_that_of_the_installed_build(
    files: Sequence[str], expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "capi").mkdir()
    for name in files:
        (tmp_path / "capi" / name).touch()
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: spec)
    assert engines.gpu_provider() == expected


def test_no_engine_pretends_to_run_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "gpu_provider", lambda: None)
    with pytest.raises(GraphError, match="no provider for GPUs"):
        engines.ENGINES["onnxruntime"].session(b"", 1, "cuda")


def test_libraries_report_nothing_to_their_makers(tmp_path: Path) -> None:
    """In a process of its own: what a library has once begun is not switched off any more."""
    home, made_up = tmp_path / "home", tmp_path / "site"
    home.mkdir()
    made_up.mkdir()
    (made_up / "openvino_telemetry.py").write_text("raise SystemExit('it would report')")
    (made_up / "openvino.py").write_text(
        "try:\n    import openvino_telemetry\nexcept ImportError:\n    quiet = True\n"
    )
    script = (
        "import onnx, sys\n"
        "from onnx import TensorProto, helper\n"
        "from dance_ondevice.runtime import engines\n"
        "assert engines.import_openvino().quiet\n"
        "ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ('image', 'y')]\n"
        "node = helper.make_node('Identity', ['image'], ['y'])\n"
        "graph = helper.make_graph([node], 'g', ends[:1], ends[1:])\n"
        "model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)\n"
        "engines.ENGINES['onnxruntime'].session(model.SerializeToString(), 1)\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    path = os.pathsep.join([str(made_up), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # It would have put an identifier of the machine there.
    assert list(home.rglob("*")) == []
