"""Whatever runs a model computes what the model does, in each of its conditions."""

from __future__ import annotations

import gc
import itertools
import time
import weakref

import pytest
import torch
from small_models import SMALL
from torch import nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions.learning import own_parameters
from dance_ondevice.models.forward import logits
from dance_ondevice.models.layers import ConvBNReLU, PyramidPooling, resize
from dance_ondevice.models.registry import build
from dance_ondevice.runtime.onnx_engine import graph_of
from dance_ondevice.runtime.runners import Engine, Runners

SIZE = (64, 96)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread_one_seed")]


def network() -> nn.Module:
    # Fresh batch norms: their tensors are all alike, which exporters like to make one of.
    return nn.Sequential(
        ConvBNReLU(3, 8, stride=2), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), PyramidPooling(8, 8)
    ).eval()


def other_statistics(model: nn.Module) -> conditions.NormStatistics:
    return conditions.NormStatistics(
        {
            name: (torch.randn_like(mean), torch.rand_like(variance) + 0.5)
            for name, (mean, variance) in conditions.capture(model).layers.items()
        }
    )


def runners(model: nn.Module, engine: Engine, seconds: float = 1.0, graph: bytes | None = None) -> Runners:
    """Each look at the clock is later than the last by one, or by ``seconds`` for every second look."""
    ticks = itertools.accumulate(itertools.cycle([1.0, seconds]))
    if graph is None and engine != "torch":
        graph = graph_of(model, SIZE)
    return Runners(model, engine, size=SIZE, threads=1, clock=lambda: next(ticks), graph=graph)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_each_condition_gets_its_own_statistics_and_base_comes_back(engine: Engine) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    model = network()
    base, dusk, x = conditions.capture(model), other_statistics(model), torch.randn(1, 3, 64, 96)
    found = runners(model, engine)
    assert found.name == engine
    expected = {}
    with torch.inference_mode():
        for name, statistics in (("base", base), ("dusk", dusk)):
            conditions.apply(model, statistics)
            expected[name] = model(x)
        conditions.apply(model, base)
        assert not torch.allclose(expected["base"], expected["dusk"], atol=0.05)
        for name, statistics in (("base", base), ("dusk", dusk), ("base", base)):
            # onnxruntime's graph brings its output to the size of the image itself.
            scores = resize(found.module(name, statistics)(x), (64, 96))
            torch.testing.assert_close(scores, resize(expected[name], (64, 96)), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_what_a_condition_learnt_runs_in_it_alone(engine: Engine) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    model = build("fastscnn", 3, SMALL["fastscnn"]).eval()
    base = conditions.capture(model, learnt=own_parameters(model))
    learnt = {name: tensor + 0.2 * torch.randn_like(tensor) for name, tensor in base.learnt.items()}
    dusk, x = conditions.NormStatistics(base.layers, learnt), torch.randn(1, 3, 64, 96)
    found = runners(model, engine)
    with torch.inference_mode():
        expected = {"base": logits(model, x)}
        conditions.apply(model, dusk)
        expected["dusk"] = logits(model, x)
        conditions.apply(model, base)
        assert not torch.allclose(expected["base"], expected["dusk"], atol=0.05)
        for name, statistics in (("base", base), ("dusk", dusk), ("base", base)):
            scores = resize(found.module(name, statistics)(x), (64, 96))
            torch.testing.assert_close(scores, resize(expected[name], (64, 96)), atol=1e-4, rtol=1e-3)
    assert found.name == engine, "it was left for torch"


def test_statistics_estimated_anew_replace_the_session_of_their_condition() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = network()
    found, first, second = runners(model, "onnxruntime"), other_statistics(model), other_statistics(model)
    session = found.module("dusk", first)
    assert found.module("dusk", first) is session
    assert found.module("dusk", second) is not session


def test_images_of_other_sizes_than_the_usual_one_run_as_well() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = build("fastscnn", 3, SMALL["fastscnn"]).eval()
    # At 64 x 64 the last map is 2 x 2: as large as what the pyramid pools to.
    graph = graph_of(model, (64, 64))
    found = Runners(model, "onnxruntime", size=(64, 64), threads=1, clock=time.perf_counter, graph=graph)
    with torch.inference_mode():
        for size in ((64, 64), (96, 128), (192, 192), (32, 224)):
            x = torch.randn(1, 3, *size)
            scores = resize(found.module("base", conditions.capture(model))(x), size)
            torch.testing.assert_close(scores, resize(logits(model, x), size), atol=1e-4, rtol=1e-3)
    assert found.name == "onnxruntime", "it was left for torch"


@pytest.mark.parametrize("at_hand", ["other weights", "other layers", "no graph at all"])
def test_a_graph_that_is_not_of_this_model_is_not_used(
    at_hand: str, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    others = {"other weights": network, "other layers": ReadTwice}
    graph = graph_of(others[at_hand]().eval(), SIZE) if at_hand in others else b"junk"
    model, x = network(), torch.randn(1, 3, *SIZE)
    found = runners(model, "onnxruntime", graph=graph)
    assert found.name == "torch"
    assert "onnxruntime not used" in caplog.text
    with torch.inference_mode():
        torch.testing.assert_close(found.module("base", conditions.capture(model))(x), model(x))


def test_without_a_graph_torch_runs() -> None:
    found = Runners(network(), "onnxruntime", size=SIZE, threads=1, clock=time.perf_counter)
    assert found.name == "torch"


def test_only_the_latest_sessions_are_kept() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = network()
    found, statistics = runners(model, "onnxruntime"), conditions.capture(model)
    first = [found.module(name, statistics) for name in ("base", "dusk", "rain")]
    assert found.module("base", statistics) is first[0]
    found.module("night", statistics)
    assert found.module("base", statistics) is first[0]
    assert found.module("rain", statistics) is first[2]
    assert found.module("dusk", statistics) is not first[1]


def test_memory_is_given_back_after_a_session_is_made_and_not_when_one_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = network()
    found, statistics = runners(model, "onnxruntime"), conditions.capture(model)
    assert found._folded is None, "weights that nothing runs"
    trims: list[str] = []
    monkeypatch.setattr("dance_ondevice.runtime.runners.trim", lambda: trims.append("trim"))
    for name in ("base", "dusk", "dusk", "base"):
        found.module(name, statistics)
    assert len(trims) == 2


def test_sessions_go_with_what_made_them() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = network()
    found = runners(model, "onnxruntime")
    session = weakref.ref(found.module("dusk", conditions.capture(model)))
    gc.disable()
    try:
        assert session() is not None
        del found
        assert session() is None
    finally:
        gc.enable()


class ReadTwice(nn.Module):
    """Reads the convolution in front of its batch norm as well, so that the two cannot be merged."""

    def __init__(self) -> None:
        super().__init__()
        self.block = ConvBNReLU(3, 5)
        nn.init.constant_(self.block.norm.bias, 3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(x) + self.block.conv(x)
        return out


def test_a_model_that_cannot_be_merged_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    model = ReadTwice().eval()
    found = runners(model, "torch")
    assert "layers not merged" in caplog.text
    dusk = other_statistics(model)
    assert found.module("dusk", dusk) is model
    assert torch.equal(model.block.norm.running_mean, dusk.layers["block.norm"][0])


class Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"no kernel for {tuple(x.shape)}")


def test_torch_takes_over_when_the_runtime_fails_on_a_frame(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = network()
    dusk, x = other_statistics(model), torch.randn(1, 3, 64, 96)
    found = runners(model, "onnxruntime")
    running = found.module("dusk", dusk)
    assert not running.training
    running.module = Broken()
    with torch.inference_mode():
        scores = running(x)
        again = running(x)
        conditions.apply(model, dusk)
        torch.testing.assert_close(scores, model(x), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(again, scores)
    assert found.name == "torch"
    assert "onnxruntime left because=no kernel" in caplog.text
