"""ESPNetv2: the published weights, its branches, and cuts through its groups and shuffles."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import SMALL
from torch import nn

from dance_ondevice.models.branches import branches_of, removable_branches, remove_branches
from dance_ondevice.models.card import ModelCard, Normalisation
from dance_ondevice.models.checkpoint import load, save
from dance_ondevice.models.cost import count_macs, count_parameters
from dance_ondevice.models.espnetv2.pyramid import PyramidHead, enlarge
from dance_ondevice.models.forward import logits, predict, to_tensor
from dance_ondevice.models.mapping.class_map import ClassMap
from dance_ondevice.models.mapping.mapped import mapped
from dance_ondevice.models.registry import arguments_of, build
from dance_ondevice.models.weights import arguments_in, load_weights, read_state
from dance_ondevice.slimming.slim import slim

SIZE = (64, 96)
WIDE = [32, 128, 256, 512]


def small() -> nn.Module:
    model = build("espnetv2", 5, SMALL["espnetv2"])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics and scales that a mistake would show in
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


@pytest.fixture
def published(request: pytest.FixtureRequest) -> Path:
    folder = os.environ.get("DANCE_WEIGHTS_DIR")
    if not folder:
        pytest.skip("no published weights: set DANCE_WEIGHTS_DIR to their folder")
    file = Path(folder) / "espnetv2" / f"{request.param}.safetensors"
    if not file.is_file():
        pytest.skip(f"DANCE_WEIGHTS_DIR has no {file.name}")
    return file


@pytest.mark.parametrize(("widths", "parameters"), [([32, 64, 128, 256], 0.234e6), (WIDE, 0.789e6)])
def test_it_has_the_parameters_of_the_published_variants(widths: list[int], parameters: float) -> None:
    with torch.device("meta"):
        model = build("espnetv2", 20, {"widths": widths})
    assert count_parameters(model) == pytest.approx(parameters, rel=0.002)


def test_the_arguments_follow_from_the_tensors() -> None:
    with torch.device("meta"):
        model = build(
            "espnetv2", 7, {"widths": WIDE, "repeats": [1, 2], "decoder": [48, 32, 16], "pyramid": 6}
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert arguments_of("espnetv2", shapes) == {
        "widths": WIDE,
        "repeats": [1, 2],
        "decoder": [48, 32, 16],
        "pyramid": 6,
    }
    wrapped = {f"module.segmentor.{name}": tensor for name, tensor in model.state_dict().items()}
    assert arguments_in(wrapped, "espnetv2") == arguments_of("espnetv2", shapes)
    assert arguments_of("fastscnn", shapes) == {}
    assert arguments_of("espnetv2", {}) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "published",
    ["espnetv2_s1_cityscapes_512x256", "espnetv2_s2_cityscapes_512x256", "espnetv2_s2_cityscapes_1024x512"],
    indirect=True,
)
def test_published_weights_give_the_published_outputs(published: Path, camvid_dir: Path) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in read_state(published).items()}
    model = build("espnetv2", 20, arguments_of("espnetv2", shapes))
    report = load_weights(model, published)
    assert (report.missing, report.misshapen, report.unexpected) == ((), (), ())
    wanted = json.loads((published.parent / "reference.json").read_text())
    images = [name.partition("/")[2] for name in wanted if name.startswith(f"{published.stem}/")]
    assert images
    for image in images:
        found = logits(model.eval(), torch.from_numpy(_resized(next(camvid_dir.glob(f"*/{image}")))))[0]
        expected = wanted[f"{published.stem}/{image}"]
        assert list(found.shape) == expected["shape"]
        for place, scores in expected["logits_at_y_x"].items():
            y, x = map(int, place.split(","))
            assert found[:, y, x].tolist() == pytest.approx(scores, abs=2e-3)
        mean = found.mean(dim=(1, 2)).tolist()
        assert mean == pytest.approx(expected["mean_logit_by_class"], abs=2e-3)
        mask = cv2.imread(
            f"{published.with_suffix('')}_{image.partition('.')[0]}_argmax.png", cv2.IMREAD_GRAYSCALE
        )
        assert np.mean(mask == found.argmax(dim=0).numpy()) > 0.9999


def _resized(image: Path) -> np.ndarray:
    pillow = pytest.importorskip("PIL.Image", reason="the reference was resized by Pillow")
    rgb = np.asarray(pillow.open(image).convert("RGB").resize((480, 352), pillow.Resampling.BILINEAR))
    with torch.inference_mode():
        return to_tensor(np.ascontiguousarray(rgb[..., ::-1]), Normalisation()).numpy()


def test_masks_are_decided_from_scores_at_half_the_size() -> None:
    model, x = small(), torch.rand(1, 3, *SIZE)
    joined = mapped(model, ClassMap(base=tuple("abcde"), members={"x": ("a", "c"), "y": ("b",)}), ("x", "y"))
    joined.eval()
    with torch.inference_mode():
        half = model.coarse_logits(x)
        assert half.shape[2:] == (SIZE[0] // 2, SIZE[1] // 2)
        assert torch.equal(enlarge(half, SIZE), model(x))
        assert joined.coarse_logits(x).shape == (1, 2, SIZE[0] // 2, SIZE[1] // 2)
    seen = []
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for whole in (model, joined):
        predict(whole, image, Normalisation(), by=lambda scores, *size: seen.append(scores.shape))
    assert seen == [(classes, SIZE[0] // 2, SIZE[1] // 2) for classes in (5, 2)]


def test_its_dilations_and_scales_are_its_multi_scale_groups() -> None:
    model = small()
    names = [f"dilation {d}" for d in (1, 2, 3, 4)] + [f"scale {s}" for s in ("2", "1.5", "1", "0.5", "0.1")]
    assert list(branches_of(model)) == names
    assert branches_of(model)["scale 0.5"] == tuple(f"bu_dec_l{level}.stages.3" for level in (1, 2, 3, 4))
    assert "dilation 1" not in removable_branches(model)


@pytest.mark.parametrize("branch", ["dilation 2", "dilation 4", "scale 2", "scale 0.1"])
def test_a_branch_that_filters_nothing_is_not_missed(branch: str) -> None:
    model, x = small(), torch.rand(1, 3, *SIZE)
    for name in branches_of(model)[branch]:
        nn.init.zeros_(next(model.get_submodule(name).parameters()))
    if branch.startswith("scale"):  # what is normalised and merged of zeros must be silent too
        place = list(model.bu_dec_l1.present()).index(float(branch.split()[1]))
        for head in (model.bu_dec_l1, model.bu_dec_l2, model.bu_dec_l3, model.bu_dec_l4):
            norm = head.merge_layer[0].br[0]
            width = norm.num_features // 5
            for values in (norm.weight, norm.bias):
                nn.init.zeros_(values[place * width : (place + 1) * width].detach())
    with torch.no_grad():
        before = logits(model, x)
        remove_branches(model, [branch])
        assert before.std() > 1e-3
        assert torch.allclose(logits(model, x), before, atol=1e-5)


@pytest.mark.parametrize("dead", [(1, 4), (0, 5)])
def test_channels_leave_a_pyramid_head_through_its_shuffle(dead: tuple[int, int]) -> None:
    """Dead channels go and the output stays: they are found behind the shuffle, in whole blocks."""
    head, x = PyramidHead(3, 5, width=6, last=True).eval(), torch.rand(1, 3, *SIZE)
    reduced, joined, merged = (
        head.projection_layer.cbr[1],
        head.merge_layer[0].br[0],
        head.merge_layer[2].cbr[1],
    )
    with torch.no_grad():
        for values in (reduced.weight, reduced.bias, merged.weight, merged.bias):
            values[list(dead)] = 0.0
        for values in (joined.weight, joined.bias):
            values[[6 * scale + channel for scale in range(5) for channel in dead]] = 0.0
        before = logits(head, x)
    assert slim(head, target_macs=count_macs(head, *SIZE) * 2 // 3, size=SIZE, round_to=1).reached
    merge = head.merge_layer[2].cbr[0]
    assert (merge.groups, merge.in_channels, merge.out_channels, joined.num_features) == (4, 20, 4, 20)
    assert before.std() > 1e-3
    assert torch.allclose(logits(head, x), before, atol=1e-5)


@pytest.mark.slow
@settings(max_examples=6)
@given(
    cuts=st.lists(
        st.one_of(
            st.floats(0.4, 0.95),
            st.sampled_from(["dilation 2", "dilation 3", "dilation 4", "scale 2", "scale 1", "scale 0.1"]),
        ),
        min_size=1,
        max_size=4,
    ),
    round_to=st.sampled_from([1, 4, 8]),
)
def test_any_sequence_of_cuts_leaves_a_network_that_runs_trains_and_comes_back(
    cuts: list[float | str], round_to: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """``slim`` itself compares the cut network with one in which nothing reads what was cut."""
    model = small()
    for cut in cuts:
        if isinstance(cut, str):
            if cut in removable_branches(model):
                remove_branches(model, [cut])
            continue
        before = count_macs(model, *SIZE)
        report = slim(model, target_macs=round(cut * before), size=SIZE, round_to=round_to)
        assert report.macs_after == count_macs(model, *SIZE) <= before
        if report.reached and report.macs_after < before:
            assert report.macs_after == pytest.approx(cut * before, rel=0.035)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert module.in_channels % module.groups == module.out_channels % module.groups == 0
    folder, x = tmp_path_factory.mktemp("cut"), torch.rand(1, 3, 33, 50)
    card = ModelCard(
        architecture="espnetv2", arguments=dict(SMALL["espnetv2"]), classes=tuple("abcde"), macs_at=SIZE
    )
    save(folder, model, card)
    found, _ = load(folder)
    assert torch.equal(logits(found, x), logits(model, x))
    logits(model.train(), torch.rand(2, 3, *SIZE)).square().mean().backward()
