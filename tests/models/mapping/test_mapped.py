"""A mapped network: its scores, its checkpoint, slimming it, and other classes for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import SMALL

from dance_ondevice.daemon.versions.widen import main as widen
from dance_ondevice.models.card import CheckpointError, ModelCard
from dance_ondevice.models.checkpoint import load, load_for, save
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.forward import logits, outputs
from dance_ondevice.models.mapping.class_map import ClassMap
from dance_ondevice.models.mapping.mapped import Mapped, mapped, unmapped
from dance_ondevice.models.registry import build
from dance_ondevice.runtime.formats import to_onnx
from dance_ondevice.slimming.slim import slim
from dance_ondevice.training.cooptimisation import freeze

SIZE = (64, 96)
SITE = ("street", "vehicle")
MAP = ClassMap(
    base=("road", "car", "sidewalk", "truck", "none"),
    members={"vehicle": ("car", "truck"), "street": ("road", "sidewalk")},
)
CARD = ModelCard(
    architecture="fastscnn",
    arguments=dict(SMALL["fastscnn"]),
    classes=SITE,
    class_map=MAP,
    macs_at=SIZE,
)


def model() -> Mapped:
    return mapped(build("fastscnn", 5, SMALL["fastscnn"]).eval(), MAP, SITE)


def test_a_class_has_the_probability_of_its_members() -> None:
    made, x = model(), torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        own, joined = made.network(x)[:, [0, 2, 1, 3]].softmax(dim=1), made(x).softmax(dim=1)
    assert torch.allclose(joined[:, 0], own[:, :2].sum(dim=1), atol=1e-6)
    assert torch.allclose(joined[:, 1], own[:, 2:].sum(dim=1), atol=1e-6)
    assert all(head.shape == (2, 2, *SIZE) for head in outputs(made.train(), x))
    logits(made, x)[:, 1].sum().backward()
    head = made.network.classifier[-1].weight.grad.abs().sum(dim=(1, 2, 3))
    assert (head > 0).tolist() == [False, True, False, True, False]


def test_it_is_slimmed_loses_branches_and_freezes_layers() -> None:
    made = model()
    made.remove_branch("pyramid bin 2")
    report = slim(made, target_macs=round(0.6 * count_macs(made, *SIZE)), size=SIZE, round_to=1)
    assert report.reached
    assert made.network.classifier[-1].out_channels == 5
    freeze(made, ["downsample"])
    assert not made.network.downsample[0].conv.weight.requires_grad


def test_its_card_brings_it_back_bit_for_bit(tmp_path: Path) -> None:
    made, x = model(), torch.rand(1, 3, 33, 20)
    slim(made, target_macs=round(0.6 * count_macs(made, *SIZE)), size=SIZE, round_to=1)
    card = save(tmp_path, made, CARD)
    found, read = load(tmp_path)
    assert read == card
    assert read.class_map == MAP
    assert torch.equal(logits(found, x), logits(made, x))
    other, without = load_for(tmp_path, ("grass", "sea", "sky"))
    assert without.class_map is None
    assert without.classes == ("grass", "sea", "sky")
    assert not isinstance(other, Mapped)
    assert logits(other, x).shape[1] == 3
    assert unmapped(found).downsample[0].conv.weight.equal(other.downsample[0].conv.weight)


def test_its_graph_gives_the_classes_of_the_site() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    made, x = model(), torch.rand(1, 3, *SIZE)
    session = onnxruntime.InferenceSession(to_onnx(made, SIZE, any_size=False))
    (found,) = session.run(None, {"image": x.numpy()})
    assert torch.allclose(torch.from_numpy(found), logits(made, x).detach(), atol=1e-3)


def test_a_card_whose_map_does_not_fit_is_refused(tmp_path: Path) -> None:
    wrong = replace(CARD, class_map=replace(MAP, members={"street": ("road",)}))
    with pytest.raises((CheckpointError, ValueError), match="no class of the network stands for 'vehicle'"):
        save(tmp_path, model(), wrong)
    save(tmp_path, model(), CARD)
    file = tmp_path / "card.json"
    file.write_text(file.read_text().replace('"truck"', '"tram"', 1))
    with pytest.raises(CheckpointError, match="class_map: 'truck' is none of the network's classes"):
        load(tmp_path)


def test_a_class_is_added_to_the_network_and_stands_for_itself(tmp_path: Path) -> None:
    made, x = model(), torch.rand(1, 3, 64, 64)
    save(tmp_path / "old", made, CARD)
    classes = [*SITE, "car"]  # a name that the network has for something else
    assert widen([str(tmp_path / "old"), str(tmp_path / "new"), json.dumps(classes)]) == 0
    found, card = load(tmp_path / "new")
    assert card.class_map is not None
    assert card.class_map.members["car"] == ("car of the site",)
    assert torch.allclose(logits(found, x)[:, :2], logits(made, x), atol=1e-5)
