"""The graph for onnxruntime: made by the trainer, kept by the service, exported again only if need be."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import msgspec
import pytest
import torch
from condition_models import write_version

from dance_ondevice.daemon.children import jobs
from dance_ondevice.daemon.config.sections import Config, Inference
from dance_ondevice.daemon.inference import slots
from dance_ondevice.daemon.inference.slots import load_slot
from dance_ondevice.daemon.planning import job as round_job
from dance_ondevice.daemon.trainer import main as trainer_main
from dance_ondevice.daemon.versions import engine_graph
from dance_ondevice.models import checkpoint
from dance_ondevice.models.card import read_card
from dance_ondevice.policies.rounds.start import RoundPlan
from dance_ondevice.runtime.engine_table import EngineChoice, order, read_table
from dance_ondevice.runtime.graph_file import read_graph

pytestmark = pytest.mark.slow

CLASSES = ("road", "sky", "car")


@pytest.fixture(autouse=True)
def _packages() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    torch.set_num_threads(1)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    write_version(tmp_path / "v1", classes=CLASSES)
    return tmp_path / "v1"


@pytest.fixture
def never_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("exported")

    monkeypatch.setattr(engine_graph.subprocess, "run", fail)


def job_of(folder: Path, version: Path) -> jobs.Job:
    out = folder / "candidate"
    out.mkdir()
    built = round_job.build(
        Config(),
        folder / "r1",
        live=version,
        frozen=version,
        samples=lambda _: (),
        plan=RoundPlan(train=(), rehearsal=(), gate=(), reason=""),
        steps=1,
        learning_rate=0.1,
        scales={},
        target_macs=None,
        seed=0,
    )
    return msgspec.structs.replace(built, out=str(out))


def test_another_process_exports_a_version_once(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = read_card(version).sha256
    assert read_graph(version, digest) is None
    assert load_slot(version, engine="onnxruntime").engine == "onnxruntime"
    assert read_graph(version, digest) is not None
    monkeypatch.setattr(engine_graph, "subprocess", None)
    assert load_slot(version, engine="onnxruntime").engine == "onnxruntime"


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("status", "RuntimeError: no such operation"),
        ("hang", "not done within 100 s"),
        ("spawn", "no memory"),
    ],
)
def test_what_cannot_be_exported_runs_in_torch(
    version: Path, what: str, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(command: list[str], **_: object) -> None:
        if what == "hang":
            raise subprocess.TimeoutExpired(command, 60)
        if what == "spawn":
            raise OSError("no memory")
        raise subprocess.CalledProcessError(
            1, command, stderr="Traceback:\nRuntimeError: no such operation\n"
        )

    monkeypatch.setattr(engine_graph.subprocess, "run", fail)
    assert load_slot(version, engine="onnxruntime").engine == "torch"
    assert "graph not exported" in caplog.text
    assert why in caplog.text


@pytest.mark.parametrize(
    ("engine", "says"), [("torch", False), ("auto", False), ("onnxruntime", True), ("openvino", True)]
)
def test_without_the_extra_torch_runs_and_says_so_where_the_other_was_asked_for(
    version: Path,
    engine: EngineChoice,
    says: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert load_slot(version, engine=engine).engine == "torch"
    assert (f"{engine} not used reason=needs" in caplog.text) == says
    assert ("pip install 'dance-ondevice[" in caplog.text) == says


def test_a_gpu_that_does_not_serve_leaves_the_frames_to_the_cpu(
    version: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slot = load_slot(version, engine="onnxruntime", device="cuda")
    assert (slot.engine, slot.device) == ("onnxruntime", "cpu")
    assert "inference on the CPU reason=this build of onnxruntime has no provider for GPUs" in caplog.text
    caplog.clear()
    assert load_slot(version, engine="onnxruntime", device="auto").device == "cpu"
    assert "inference on the CPU" not in caplog.text, "nobody asked for a GPU"

    # A build that has the provider, on a machine without its libraries.
    monkeypatch.setattr(slots, "gpu_provider", lambda: "CUDAExecutionProvider")
    slot = load_slot(version, engine="onnxruntime", device="auto")
    assert (slot.engine, slot.device) == ("onnxruntime", "cpu")
    assert "onnxruntime left reason=" in caplog.text


def test_the_trainer_writes_the_graph_that_the_service_loads(
    version: Path, tmp_path: Path, never_exports: None
) -> None:
    job = job_of(tmp_path, version)
    assert job.graph
    checkpoint.save(Path(job.out), *checkpoint.load(version))
    trainer_main._prepare_engines(job)
    assert load_slot(Path(job.out), engine="onnxruntime").engine == "onnxruntime"


def test_a_model_that_cannot_be_exported_costs_no_round(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("an operation of its own")

    monkeypatch.setattr(trainer_main, "prepare", fail)
    job = job_of(tmp_path, version)
    checkpoint.save(Path(job.out), *checkpoint.load(version))
    trainer_main._prepare_engines(job)
    assert read_graph(Path(job.out), read_card(Path(job.out)).sha256) is None
    assert "no graph for other engines than torch: an operation of its own" in capsys.readouterr().err


def test_only_a_service_that_may_use_it_asks_for_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def asks(inference: Inference) -> bool:
        return round_job._wants_graph(Config(inference=inference))

    assert asks(Inference())
    assert asks(Inference(engine="onnxruntime"))
    assert not asks(Inference(engine="torch"))
    assert not asks(Inference(enabled=False))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not asks(Inference())


def test_the_engine_that_measured_best_serves(version: Path) -> None:
    slot = load_slot(version, engine="auto")
    table = read_table(version, slot.card.sha256)
    assert table is not None
    assert slot.engine == order(table, "auto")[0] != "torch"
