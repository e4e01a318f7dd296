"""Whatever serves a version computes what the model does, in each condition, on frames of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import SMALL
from torch import nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions.arrays import ConditionArrays
from dance_ondevice.conditions.learning import own_parameters
from dance_ondevice.conditions.statistics import NormStatistics
from dance_ondevice.conditions.store import as_arrays, as_tensors
from dance_ondevice.datasets.registry import open_dataset
from dance_ondevice.datasets.street import StreetCamera
from dance_ondevice.images.codec import decode_colour
from dance_ondevice.images.confusion import confusion_matrix, miou
from dance_ondevice.images.masks import Prediction, decide, decide_on_half_grid
from dance_ondevice.models import checkpoint, packaged
from dance_ondevice.models.card import ModelCard, Normalisation
from dance_ondevice.models.forward import predict, to_tensor
from dance_ondevice.models.layers import ConvBNReLU
from dance_ondevice.models.registry import build
from dance_ondevice.runtime import sessions
from dance_ondevice.runtime.comparing import compare, prepare
from dance_ondevice.runtime.engine_table import EngineRow, EngineTable, board, order, read_table
from dance_ondevice.runtime.engines import ENGINES, Device, EngineName, Run, installed
from dance_ondevice.runtime.formats import ExportError
from dance_ondevice.runtime.frames import FrameInput
from dance_ondevice.runtime.graph_file import GraphError, ServingGraph, read_graph, write_graph
from dance_ondevice.runtime.serving import GraphServer, Server, WithFallback
from dance_ondevice.runtime.serving_graph import graph_of
from dance_ondevice.runtime.torch_server import TorchServer

SIZE = (64, 96)
NORMALISATION = Normalisation()
IMAGE = StreetCamera(seed=1, height=61, width=90).render(3, "day")[0]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread_one_seed")]


def network() -> nn.Module:
    """Tells classes apart, unlike a fresh network."""
    model = build("fastscnn", 5, SMALL["fastscnn"]).eval()
    last = [module for module in model.modules() if isinstance(module, nn.Conv2d)][-1]
    for name, parameter in model.named_parameters():
        if name.startswith("classifier") and parameter.dim() == 4:
            nn.init.normal_(parameter, std=0.5)
    nn.init.normal_(last.weight, std=3.0)
    return model


@pytest.fixture(scope="module")
def made() -> tuple[nn.Module, ServingGraph]:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = network()
    return model, graph_of(model, SIZE, "digest")


def strange(model: nn.Module, *, learnt: bool) -> ConditionArrays:
    """Statistics, and late layers if ``learnt``, of which none is the model's own."""
    own = conditions.capture(model, learnt=own_parameters(model) if learnt else ())
    return as_arrays(
        NormStatistics(
            {n: (m + 0.2 * torch.rand_like(m), v * 1.5 + 0.1) for n, (m, v) in own.layers.items()},
            {n: t + 0.2 * torch.randn_like(t) for n, t in own.learnt.items()},
        )
    )


def expected(model: nn.Module, image: np.ndarray, condition: ConditionArrays | None) -> Prediction:
    before = conditions.capture(model, learnt=condition.learnt if condition else ())
    try:
        if condition is not None:
            conditions.apply(model, as_tensors(condition))
        return predict(model, image, NORMALISATION, by=decide_on_half_grid)
    finally:
        conditions.apply(model, before)


def server_of(engine: EngineName, made: tuple[nn.Module, ServingGraph]) -> Server:
    if not installed(engine):
        pytest.skip(f"{engine} is not installed")
    model, graph = made
    if engine == "torch":
        return TorchServer(network_of(model), NORMALISATION, size=SIZE)
    return GraphServer(graph, engine, NORMALISATION, threads=1)


def network_of(model: nn.Module) -> nn.Module:
    copied = network()
    copied.load_state_dict(model.state_dict())
    return copied


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_each_condition_gets_its_own_values_and_base_comes_back(
    engine: EngineName, made: tuple[nn.Module, ServingGraph]
) -> None:
    server, model = server_of(engine, made), made[0]
    dusk, rain = strange(model, learnt=False), strange(model, learnt=True)
    seen = []
    for name, values in (("base", None), ("dusk", dusk), ("rain", rain), ("dusk", dusk), ("base", None)):
        found, wanted = server.predict(IMAGE, name, values, IMAGE.shape[:2]), expected(model, IMAGE, values)
        assert found.mask.shape == IMAGE.shape[:2]
        assert np.mean(found.mask == wanted.mask) > 0.995  # bfloat16 rounds
        assert found.mean_confidence == pytest.approx(wanted.mean_confidence, abs=0.01)
        seen.append(found.mean_confidence)
    assert seen[0] == seen[4] != seen[1] == seen[3] != seen[2]


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
@pytest.mark.parametrize("size", [(1, 1), (33, 65), (64, 64), (97, 61)])
def test_frames_of_any_size_get_masks_of_the_size_that_is_asked_for(
    engine: EngineName, size: tuple[int, int], made: tuple[nn.Module, ServingGraph]
) -> None:
    server = server_of(engine, made)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    found = server.predict(image, "base", None, (2 * size[0] - 1, 2 * size[1] + 1))
    assert found.mask.shape == (2 * size[0] - 1, 2 * size[1] + 1)
    assert found.mask.flags["C_CONTIGUOUS"]
    wanted = expected(made[0], image, None)
    assert np.mean(server.predict(image, "base", None, size).mask == wanted.mask) > 0.99


def test_frames_are_normalised_as_in_training() -> None:
    frames = FrameInput(NORMALISATION)
    for image in (IMAGE, IMAGE[:32, :64], IMAGE):
        found = frames.of(image)
        height, width = image.shape[:2]
        wanted = to_tensor(image, NORMALISATION).numpy()
        np.testing.assert_allclose(found[..., :height, :width], wanted, atol=1e-6)
        edge = np.broadcast_to(found[..., :height, width - 1 : width], found[..., :height, width:].shape)
        assert np.array_equal(found[..., :height, width:], edge)
        assert (found.shape[2] % 32, found.shape[3] % 32) == (0, 0)
    with pytest.raises(ValueError, match="expected an image"):
        frames.of(IMAGE[..., 0])


def test_a_graph_on_disk_is_of_its_model_alone(tmp_path: Path, made: tuple[nn.Module, ServingGraph]) -> None:
    folder, graph = tmp_path, made[1]
    write_graph(folder, replace(graph, onnx=graph.onnx + b"\0"))
    write_graph(folder, graph)
    assert len(list(folder.iterdir())) == 2
    found = read_graph(folder, "digest")
    assert found is not None
    assert (found.onnx, dict(found.places)) == (graph.onnx, dict(graph.places))
    assert read_graph(folder, "other") is None
    (file,) = folder.glob("*.onnx")
    file.write_bytes(graph.onnx[:-1])
    assert read_graph(folder, "digest") is None


def test_values_that_do_not_fit_are_refused(made: tuple[nn.Module, ServingGraph]) -> None:
    model, graph = made
    (name, (mean, variance)), *_ = strange(model, learnt=False).layers.items()
    with pytest.raises(GraphError, match="values, the graph"):
        graph.of(ConditionArrays({name: (mean[1:], variance)}))
    with pytest.raises(GraphError, match="learnt cannot be set"):
        replace(graph, learnt=False).of(strange(model, learnt=True))


def test_only_the_latest_sessions_are_kept(
    made: tuple[nn.Module, ServingGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []
    trims: list[str] = []
    monkeypatch.setattr(sessions, "trim", lambda: trims.append("trim"))
    real = ENGINES["onnxruntime"]

    def opening(graph: bytes, threads: int, device: Device, size: tuple[int, int] | None) -> Run:
        opened.append(graph)
        return real.open(graph, threads, device, size)

    monkeypatch.setitem(ENGINES, "onnxruntime", replace(real, open=opening))
    server = GraphServer(made[1], "onnxruntime", NORMALISATION, threads=1)
    values = {name: strange(made[0], learnt=False) for name in ("dusk", "rain", "night")}
    for name in ("dusk", "dusk", "rain", "night", "dusk"):
        server.prepare(name, values[name])
    assert len(opened) == len(trims) == 3
    server.prepare("base", None)  # the fourth: rain goes
    server.prepare("dusk", values["dusk"])
    assert len(opened) == 4
    server.prepare("rain", values["rain"])
    server.prepare("dusk", strange(made[0], learnt=False))  # estimated again
    assert len(opened) == 6


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_sizes_that_come_often_get_a_session_that_knows_them(
    made: tuple[nn.Module, ServingGraph], engine: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed(engine):
        pytest.skip(f"{engine} is not installed")
    opened: list[tuple[int, int] | None] = []
    real = ENGINES[engine]

    def opening(graph: bytes, threads: int, device: Device, size: tuple[int, int] | None) -> Run:
        opened.append(size)
        return real.open(graph, threads, device, size)

    monkeypatch.setitem(ENGINES, engine, replace(real, open=opening))
    server = GraphServer(made[1], engine, NORMALISATION, threads=1, often=3)
    dusk = strange(made[0], learnt=True)
    first = {
        name: server.predict(IMAGE, name, values, SIZE).mask for name, values in (("", None), ("d", dusk))
    }
    for name, values in (("", None), ("d", dusk)) * 3:
        assert np.array_equal(server.predict(IMAGE, name, values, SIZE).mask, first[name])
    assert opened == [None, None, SIZE, SIZE], "one for each condition, then one that knows the size"

    other = np.ascontiguousarray(IMAGE[:30])
    server.predict(other, "", None, SIZE)
    assert len(opened) == 4, "another size goes through the first session"
    again = strange(made[0], learnt=True)
    server.predict(IMAGE, "d", again, SIZE)
    assert opened[4:] == [None], "estimated again: the session has old values"
    server.forget("d")
    server.predict(IMAGE, "", None, SIZE)
    assert len(opened) == 5


def test_a_graph_that_an_engine_takes_for_any_size_alone_is_served_so(
    made: tuple[nn.Module, ServingGraph], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = ENGINES["onnxruntime"]

    def opening(graph: bytes, threads: int, device: Device, size: tuple[int, int] | None) -> Run:
        if size is not None:
            raise RuntimeError("no such shape")
        return real.open(graph, threads, device, size)

    monkeypatch.setitem(ENGINES, "onnxruntime", replace(real, open=opening))
    server = GraphServer(made[1], "onnxruntime", NORMALISATION, threads=1, often=1)
    masks = [server.predict(IMAGE, "", None, SIZE).mask for _ in range(3)]
    assert np.array_equal(masks[0], masks[2])
    assert caplog.text.count("no session for one size") == 1


class Failing:
    """Fails on frames of one width."""

    name: EngineName = "onnxruntime"
    device: Device = "cpu"

    def prepare(self, name: str, condition: ConditionArrays | None) -> None:
        pass

    def forget(self, name: str) -> None:
        pass

    def predict(self, image: np.ndarray, *_: object) -> Prediction:
        if image.shape[1] == 90:
            raise RuntimeError("no kernel for 90")
        return Prediction(np.zeros((1, 1), np.uint8), 0.5)


def test_another_server_takes_over_when_one_fails_on_a_frame(
    made: tuple[nn.Module, ServingGraph], caplog: pytest.LogCaptureFixture
) -> None:
    server = WithFallback(Failing(), lambda: server_of("torch", made))
    assert server.predict(IMAGE[:, :64], "base", None, (1, 1)).mean_confidence == 0.5
    found = server.predict(IMAGE, "base", None, IMAGE.shape[:2])
    assert np.array_equal(found.mask, expected(made[0], IMAGE, None).mask)
    assert server.name == "torch"
    assert "onnxruntime left reason=no kernel for 90" in caplog.text
    with pytest.raises(ValueError, match="expected an image"):
        server.predict(IMAGE[..., 0], "base", None, (1, 1))


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
    server = TorchServer(model, NORMALISATION, size=SIZE)
    assert "layers not merged" in caplog.text
    wanted = predict(model, IMAGE, NORMALISATION, by=decide_on_half_grid)
    assert np.array_equal(server.predict(IMAGE, "base", None, IMAGE.shape[:2]).mask, wanted.mask)


def test_a_half_grid_costs_next_to_nothing_on_smooth_scores() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(5, 12, 16)).astype(np.float32)
    for out_size in ((96, 128), (95, 121), (3, 5)):
        span = (out_size[0] + 1.0, out_size[1] + 7.0)
        whole, half = decide(coarse, span, out_size), decide_on_half_grid(coarse, span, out_size)
        assert half.mask.shape == out_size
        assert np.mean(half.mask == whole.mask) > 0.9
    # Scores as fine as the mask are decided as they are.
    fine = rng.normal(size=(5, 12, 16)).astype(np.float32)
    assert np.array_equal(decide_on_half_grid(fine, (12, 16), (12, 16)).mask, fine.argmax(axis=0))


def test_a_table_holds_every_engine_and_is_of_this_board(
    tmp_path: Path, made: tuple[nn.Module, ServingGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, (model, graph) = tmp_path, made
    card = ModelCard(classes=tuple("abcde"), macs_at=SIZE, sha256="digest")
    write_graph(folder, graph)
    prepare(folder, network_of(model), card)
    table = read_table(folder, "digest")
    assert table is not None
    rows = {row.engine: row for row in table.engines}
    assert set(rows) == {name for name in ("torch", "onnxruntime", "openvino") if installed(name)}
    assert all(row.usable and row.cpu_ms for row in rows.values())
    assert order(table, "auto")[-1] == "torch"
    assert order(table, "onnxruntime") == ["onnxruntime", "torch"]
    assert order(table, "torch") == ["torch"]
    assert read_table(folder, "other") is None
    monkeypatch.setattr("dance_ondevice.runtime.engine_table.board", lambda: "another")
    assert read_table(folder, "digest") is None


def test_the_engine_that_takes_least_and_agrees_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dance_ondevice.runtime.engine_table.installed", lambda name: True)
    rows = [
        EngineRow(engine="torch", cpu_ms=1.0, agreement=1.0),
        EngineRow(engine="onnxruntime", cpu_ms=3.0, agreement=1.0),
        EngineRow(engine="openvino", cpu_ms=2.0, agreement=1.0),
    ]

    def first(*some: EngineRow) -> str:
        return order(EngineTable(model="m", board=board(), size=SIZE, engines=some), "auto")[0]

    assert first(*rows) == "openvino", "torch is the last resort, however quick"
    assert first(rows[0], rows[1], EngineRow(engine="openvino", cpu_ms=2.0, agreement=0.99)) == "onnxruntime"
    assert first(rows[0], EngineRow(engine="onnxruntime", note="refuses it")) == "torch"
    assert order(None, "auto") == ["onnxruntime", "openvino", "torch"]


class Unexportable(nn.Module):
    """Asks its input for a number, which a trace would freeze, and computes with it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x) * float(x.mean())
        return out


def test_what_cannot_be_exported_is_left_to_torch() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = Unexportable().eval()
    with pytest.raises(ExportError, match="differ from the model"):
        graph_of(model, SIZE)
    card = ModelCard(classes=tuple("abcde"), macs_at=SIZE)
    ticks: Callable[[], float] = iter(range(10_000)).__next__
    table = compare(model, card, None, clock=ticks)
    rows = {row.engine: row for row in table.engines}
    assert rows["onnxruntime"].note == "the model cannot be exported"
    assert order(table, "auto") == ["torch"]


def test_on_camvid_the_shortcuts_cost_less_than_a_tenth_of_a_point(camvid_dir: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model, card = checkpoint.load(packaged.FOLDER)
    server = GraphServer(graph_of(model, (360, 480)), "onnxruntime", card.normalisation, threads=1)
    data = open_dataset("camvid", camvid_dir)
    matrices = [np.zeros((len(card.classes),) * 2, np.int64) for _ in range(2)]
    for item in data.images(("val",))[::4]:
        image, label = decode_colour(item.image.read_bytes()), data.read_label(item.label)
        masks = (
            server.predict(image, "base", None, label.shape).mask,
            predict(model, image, card.normalisation).mask,
        )
        matrices = [
            matrix + confusion_matrix(label, mask, len(card.classes))
            for matrix, mask in zip(matrices, masks, strict=True)
        ]
    served, exact = map(miou, matrices)
    assert served == pytest.approx(exact, abs=0.001)
    assert exact > 0.2
