"""Exported files are read by their own runtimes and compared with the model that they came from."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import SMALL
from torch import Tensor, nn

from dance_ondevice.daemon.commands.models import export as models_export
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.forward import logits
from dance_ondevice.models.layers import ConvBNReLU, PyramidPooling
from dance_ondevice.models.registry import build
from dance_ondevice.runtime import export as exports
from dance_ondevice.runtime import formats
from dance_ondevice.runtime.export import export
from dance_ondevice.runtime.formats import FORMATS, ExportError

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")

CARD = ModelCard(classes=("road", "sky", "car"), macs_at=(64, 96), version="v7", sha256="ab")


def frames(count: int = 2) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 50, 70, 3), dtype=np.uint8))


def pyramid() -> nn.Module:
    """Small, with what is hard to export: a pooling whose grids do not divide the image."""
    model = nn.Sequential(
        ConvBNReLU(3, 8, 3, stride=2), ConvBNReLU(8, 8, 3, stride=2), PyramidPooling(8, 8), nn.Conv2d(8, 3, 1)
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (nn.Identity(), nn.Identity()),
        (nn.Flatten(2), nn.Unflatten(2, (32, 32))),
        (nn.Sequential(nn.AvgPool2d(32), nn.Flatten()), nn.Unflatten(1, (3, 1, 1))),
    ],
)
def test_prelu_is_written_as_what_engines_compute_faster(before: nn.Module, after: nn.Module) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    prelu, x = nn.PReLU(3), torch.randn(1, 3, 32, 32)
    prelu.weight.data = torch.tensor([-0.5, 0.25, 2.0])
    model = nn.Sequential(before, prelu, after).eval()
    graph = formats.to_onnx(model, (32, 32), any_size=False, upsample=False)
    assert "PRelu" not in {node.op_type for node in onnx.load_from_string(graph).graph.node}
    (found,) = onnxruntime.InferenceSession(graph).run(None, {"image": x.numpy()})
    assert torch.allclose(torch.from_numpy(found), model(x).detach(), atol=1e-6)


def test_onnx_agrees_at_sizes_it_was_not_traced_at(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model, file = pyramid(), tmp_path / "m.onnx"
    done = export(model, CARD, "onnx", file, size=(50, 70), frames=frames())
    assert done.size is None
    assert (done.multiple_of, done.tried) == (1, ((64, 96), (96, 160), (50, 70), (181, 243), (33, 65)))
    assert done.parity.frames == 2 * len(done.tried)
    assert done.bytes == file.stat().st_size
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == ["road", "sky", "car"]
    assert json.loads(facts["mean"]) == list(CARD.normalisation.mean)
    assert facts["version"] == "v7"
    x = torch.randn(1, 3, 160, 224)
    found = session.run(None, {"image": x.numpy()})[0]
    with torch.inference_mode():
        np.testing.assert_allclose(found, logits(model, x).numpy(), atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


class UNet(nn.Module):
    """Plain, as users bring it: two levels down, up by two, concatenated with what was there."""

    def __init__(self, halvings: int = 2) -> None:
        super().__init__()
        self.first = ConvBNReLU(3, 4, 3)
        self.down = nn.ModuleList([ConvBNReLU(4, 4, 3) for _ in range(halvings)])
        self.up = nn.ModuleList([ConvBNReLU(8, 4, 3) for _ in range(halvings)])
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.first(x)]
        for layer in self.down:
            skips.append(layer(nn.functional.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for layer in self.up:
            x = layer(torch.cat([nn.functional.interpolate(x, scale_factor=2.0), skips.pop()], dim=1))
        out: Tensor = self.last(x)
        return out


def test_a_brought_network_with_skips_serves_the_sizes_of_cameras(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model, file = UNet().eval(), tmp_path / "m.onnx"
    done = export(model, CARD, "onnx", file, size=(180, 240), frames=frames())
    assert (done.size, done.multiple_of) == (None, 1)
    assert {(180, 240), (181, 243), (33, 65)} <= set(done.tried)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for height, width in ((180, 240), (360, 480), (181, 243), (33, 65), (1, 1)):
        x = torch.randn(1, 3, height, width)
        with torch.inference_mode():
            expected = logits(model, x).numpy()
        np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], expected, atol=1e-4)


def test_where_odd_sizes_do_not_agree_the_file_says_multiples_of_32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    without = exports.Graph.forward

    def forward(self: exports.Graph, x: Tensor) -> Tensor:
        self._pad = False
        return without(self, x)

    monkeypatch.setattr(exports.Graph, "forward", forward)
    file = tmp_path / "m.onnx"
    done = export(UNet().eval(), CARD, "onnx", file, size=(64, 96), frames=frames())
    assert (done.size, done.multiple_of, done.tried) == (None, 32, ((64, 96), (96, 160)))
    assert "images whose sides are multiples of 32 only" in models_export._sentence(done, file)


def test_torchscript_agrees_and_tells_its_classes(tmp_path: Path) -> None:
    model, file = pyramid(), tmp_path / "m.pt"
    assert export(model, CARD, "torchscript", file, size=(64, 96), frames=frames()).size is None
    extra = {"facts.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit says that there are newer ways
        loaded = torch.jit.load(str(file), _extra_files=extra)
    x = torch.randn(1, 3, 128, 96)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), logits(model, x))
    assert json.loads(json.loads(extra["facts.json"])["classes"]) == ["road", "sky", "car"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fastscnn", "pspnet", "bisenetv2", "deeplabv3plus", "hrnet"])
def test_every_architecture_exports_for_any_size(tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = build(name, 3, SMALL[name]).eval()
    done = export(model, CARD, "onnx", tmp_path / "m", size=(64, 96), frames=frames(1))
    assert done.size is None
    assert done.parity.agrees


class Moody(nn.Module):
    """Computes something else whenever it is traced, as code that depends on its data does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return -out if torch.jit.is_tracing() else out


def test_a_file_that_does_not_agree_is_not_left_behind(tmp_path: Path) -> None:
    file = tmp_path / "m.pt"
    file.write_bytes(b"an earlier one")
    with pytest.raises(ExportError, match="none was written: logits differ by up to"):
        export(Moody().eval(), CARD, "torchscript", file, size=(64, 96), frames=frames())
    assert file.read_bytes() == b"an earlier one"
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


class Fixed(nn.Module):
    """Has its size written into the graph by code that tracing does not see."""

    def forward(self, x: Tensor) -> Tensor:
        height = int(x.shape[2])
        return nn.functional.interpolate(x, size=(height, height))[:, :, :height]


def test_a_graph_with_its_size_inside_is_for_that_size_alone(tmp_path: Path) -> None:
    done = export(Fixed().eval(), CARD, "torchscript", tmp_path / "m.pt", size=(64, 96), frames=frames())
    assert done.size == (64, 96)


def test_a_model_that_cannot_be_traced_is_told(tmp_path: Path) -> None:
    class Refuses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if torch.jit.is_tracing():
                raise RuntimeError("not like this\nand more")
            return x

    pytest.importorskip("onnx")
    with pytest.raises(ExportError, match=r"cannot be written as ONNX: not like this$"):
        export(Refuses().eval(), CARD, "onnx", tmp_path / "m.onnx", size=(64, 96), frames=frames())
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_cannot_be_written_is_not_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class PoolsToThree(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.interpolate(nn.functional.adaptive_max_pool2d(x, 3), x.shape[2:])

    pytest.importorskip("onnx")
    with pytest.raises(ExportError, match="cannot be written as ONNX"):
        export(PoolsToThree().eval(), CARD, "onnx", tmp_path / "m.onnx", size=(64, 96), frames=frames())
    assert capfd.readouterr().out == ""


def test_executorch_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(ExportError, match=r"pip install 'dance-ondevice\[executorch\]'"):
        export(pyramid(), CARD, "executorch", tmp_path / "m.pte", size=(64, 96), frames=frames())


@pytest.mark.parametrize(("pixels", "cells"), [(12, 1), (12, 2), (7, 3), (15, 6), (3, 6)])
def test_pooling_as_products_is_that_of_torch(pixels: int, cells: int) -> None:
    """Both as a constant and as what is computed while a graph is traced."""
    x = torch.randn(1, 1, 1, pixels)
    expected = nn.functional.adaptive_avg_pool2d(x, (1, cells))
    for known in (pixels, torch.tensor(pixels)):
        matrix = formats._averaging(known, cells)
        torch.testing.assert_close(x @ matrix.transpose(0, 1), expected)


@pytest.fixture
def executorch() -> None:
    """The package: what it warns of on its way in is not this project's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(
            "executorch.exir", reason="no executorch here: pip install 'dance-ondevice[executorch]'"
        )
        pytest.importorskip("executorch.runtime")


@pytest.mark.slow
@pytest.mark.usefixtures("executorch")
def test_executorch_agrees_and_leaves_next_to_nothing_to_its_slow_operators(tmp_path: Path) -> None:
    model, file = pyramid(), tmp_path / "m.pte"
    done = export(model, CARD, "executorch", file, size=(50, 70), frames=frames())
    assert done.size == (64, 96)
    assert done.parity.agrees
    assert done.parity.frames == 2
    assert done.bytes == file.stat().st_size
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(formats.WRITERS["executorch"].read(file)(x), logits(model, x))
    # What the pooling's matrices are made of is known when the file is written; XNNPACK has the rest.
    content = file.read_bytes()
    assert b"XnnpackBackend" in content
    assert not [name for name in (b"aten::arange", b"aten::div", b"aten::convolution") if name in content]


@pytest.mark.slow
@pytest.mark.usefixtures("executorch")
@pytest.mark.parametrize("name", ["fastscnn", "pspnet", "bisenetv2", "deeplabv3plus", "hrnet"])
def test_every_architecture_exports_to_executorch(tmp_path: Path, name: str) -> None:
    model = build(name, 3, {}).eval()
    done = export(model, CARD, "executorch", tmp_path / "m.pte", size=(64, 96), frames=frames(1))
    assert done.parity.agrees


def test_not_a_number_never_agrees() -> None:
    fine = exports.Parity(frames=1, max_difference=1e-4, largest_logit=2.0, mask_agreement=1.0)
    assert fine.agrees
    assert not exports.replace(fine, max_difference=float("nan")).agrees
    assert not exports.replace(fine, mask_agreement=0.99).agrees
    assert not exports.replace(fine, max_difference=0.1).agrees


def test_the_command_knows_the_formats() -> None:
    assert models_export.FORMATS == FORMATS
