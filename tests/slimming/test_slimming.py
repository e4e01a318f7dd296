from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slim_small import ARGUMENTS, SIZE, assert_sound, slim_to, small
from torch import nn

from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.channels import channels_of, widths_built_with
from dance_ondevice.models.checkpoint import load, save
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.fastscnn import FastSCNN
from dance_ondevice.models.forward import logits
from dance_ondevice.models.registry import build, build_from_factory
from dance_ondevice.slimming.importance import scale_scores
from dance_ondevice.slimming.slim import slim

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread_one_seed")]


@pytest.fixture
def unet(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "models"))
    return "unet_of_a_user:make_unet"


def kill_half(model: nn.Module) -> None:
    """Make half of each normalised layer's channels zero; layers of one width lose the same ones."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            width = module.num_features
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            dead = torch.randperm(width, generator=torch.Generator().manual_seed(width))[: width // 2]
            with torch.no_grad():
                module.weight[dead] = 0.0
                module.bias[dead] = 0.0


@pytest.mark.parametrize("auxiliary", [False, True])
def test_taking_out_dead_channels_changes_no_output(auxiliary: bool):
    model = small(auxiliary=auxiliary).eval()
    kill_half(model)
    x = torch.rand(2, 3, 64, 96)
    model.training = True  # for the auxiliary heads; normalisation stays as it is
    with torch.no_grad():
        before = model(x)
    report = slim_to(model, 0.45, round_to=1)
    assert report.macs_after < 0.47 * report.macs_before
    model.training = True
    with torch.no_grad():
        after = model(x)
    pairs = zip(before, after, strict=True) if auxiliary else [(before, after)]
    for one, other in pairs:
        assert one.std() > 0.01
        assert torch.allclose(one, other, atol=1e-5)


def test_taking_out_dead_channels_of_a_users_unet_changes_no_output(unet: str):
    model = build_from_factory(unet, 5).eval()
    kill_half(model)
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        for layer in (model.up_second, model.up_first):  # no scales follow: the filters themselves die
            dead = torch.arange(0, layer.out_channels, 2)
            layer.weight[:, dead] = 0.0
            layer.bias[dead] = 0.0
        before = model(x)
    report = slim_to(model, 0.45, round_to=1)
    assert report.macs_after < 0.47 * report.macs_before
    with torch.no_grad():
        assert torch.allclose(model(x), before, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.95, 0.9, 0.5, 0.2])
def test_the_whole_network_meets_the_target(fraction: float):
    model = FastSCNN(11)
    report = slim(model, target_macs=round(fraction * count_macs(model, 240, 320)), size=(240, 320))
    assert report.reached
    assert report.macs_after == pytest.approx(report.target_macs, rel=0.03)
    assert report.macs_after == count_macs(model, 240, 320)
    assert report.parameters_after < report.parameters_before
    assert model.classifier[-1].out_channels == 11
    widths = {layer: out for layer, (_, out, _) in report.channels.items() if layer != "classifier.3"}
    assert all(width % 8 == 0 for width in widths.values())


@pytest.mark.slow
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fractions=st.lists(st.floats(0.02, 1.3), min_size=1, max_size=3),
    round_to=st.sampled_from([1, 2, 4, 8]),
    auxiliary=st.booleans(),
)
def test_any_target_is_met_or_as_small_as_it_gets(
    fractions: list[float], round_to: int, auxiliary: bool, tmp_path: Path
):
    model = small(auxiliary=auxiliary)
    arguments = {**ARGUMENTS, "auxiliary": auxiliary}
    dense = count_macs(model, *SIZE)
    for fraction in fractions:
        target = max(1, round(fraction * dense))
        report = slim(model, target_macs=target, size=SIZE, round_to=round_to)
        assert_sound(model, report)
        outputs = {name: width for name, (_, width, _) in report.channels.items()}
        classes = {
            name for name in outputs if name == "classifier.3" or (name.endswith(".1") and "aux" in name)
        }
        assert {outputs.pop(name) for name in classes} == {5}
        assert min(outputs.values()) >= 4
        if target >= report.macs_before:
            assert report.macs_after == report.macs_before
        elif report.macs_after > 1.03 * target:
            assert not report.reached
            assert set(outputs.values()) == {4}
        else:
            assert report.macs_after == pytest.approx(target, rel=0.03)
    card = ModelCard(
        architecture="fastscnn",
        arguments=arguments,
        classes=tuple("abcde"),
        macs_at=SIZE,
        unslimmed_macs=dense,
    )
    written = save(tmp_path, model, card)
    found, read = load(tmp_path)
    assert read == written
    assert read.macs == count_macs(model, *SIZE)
    assert read.unslimmed_macs == dense
    x = torch.rand(1, 3, 33, 20)
    assert torch.equal(logits(found, x), logits(model.eval(), x))


@pytest.mark.slow
def test_small_steps_end_where_one_large_step_does():
    once, often = small(), small()
    target = count_macs(once, *SIZE)
    slim_to(once, 0.4, round_to=4)
    for step in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
        slim(often, target_macs=round(step * target), size=SIZE, round_to=4)
    for name, (inputs, outputs, _) in channels_of(once).items():
        found = channels_of(often)[name]
        assert abs(found[0] - inputs) <= 8, name
        assert abs(found[1] - outputs) <= 8, name


@pytest.mark.slow
def test_a_loaded_model_remembers_how_wide_it_was_and_is_slimmed_further(tmp_path: Path):
    model = small()
    dense = count_macs(model, *SIZE)
    slim_to(model, 0.7)
    save(
        tmp_path,
        model,
        ModelCard(architecture="fastscnn", arguments=ARGUMENTS, classes=tuple("abcde"), macs_at=SIZE),
    )
    found, _ = load(tmp_path)
    assert widths_built_with(found) == channels_of(small()) != channels_of(found)
    ours = slim(model, target_macs=round(0.4 * dense), size=SIZE)
    theirs = slim(found, target_macs=round(0.4 * dense), size=SIZE)
    assert ours == theirs
    x = torch.rand(1, 3, 40, 40)
    assert torch.equal(logits(found.eval(), x), logits(model.eval(), x))
    assert_sound(found, theirs)


@pytest.mark.slow
def test_a_users_unet_is_slimmed_saved_and_loaded(unet: str, tmp_path: Path):
    model = build_from_factory(unet, 5)
    report = slim_to(model, 0.5)
    assert report.macs_after == pytest.approx(report.target_macs, rel=0.03)
    assert_sound(model, report)
    assert model.last.out_channels == 5
    save(tmp_path, model, ModelCard(factory=unet, classes=tuple("abcde"), macs_at=SIZE))
    found, card = load(tmp_path)
    assert (card.factory, card.channels) == (unet, report.channels)
    x = torch.rand(1, 3, 17, 13)
    assert torch.equal(logits(found, x), logits(model.eval(), x))
    again = slim_to(found, 0.5)
    assert again.macs_after == pytest.approx(again.target_macs, rel=0.03)
    assert_sound(found, again)


def test_the_channels_with_the_smallest_scales_go():
    model = small()
    norm = model.classifier[1].pointwise.norm
    with torch.no_grad():
        signs = torch.where(torch.arange(32) % 2 == 0, 1.0, -1.0)
        norm.weight.copy_(torch.linspace(2.0, 1.0, 32) * signs)
    kept_before = norm.weight.detach().clone()
    slim_to(model, 0.6, round_to=1)
    left = norm.weight.numel()
    assert 4 < left < 32
    assert torch.equal(norm.weight, kept_before[:left])


def test_companions_lose_exactly_the_same_channels():
    model = small(auxiliary=True)
    where = {name: torch.arange(p.numel()).reshape(p.shape).float() for name, p in model.named_parameters()}
    companions = [copy.deepcopy(model), copy.deepcopy(model)]
    with torch.no_grad():
        for name, place in where.items():
            model.get_parameter(name).copy_(torch.rand_like(place))  # its own order of importance
            companions[0].get_parameter(name).copy_(model.get_parameter(name))
            companions[1].get_parameter(name).copy_(place)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    slim_to(model, 0.5, companions=companions)
    for name, parameter in model.named_parameters():
        assert torch.equal(companions[0].get_parameter(name), parameter)
        kept = companions[1].get_parameter(name).long()
        assert torch.equal(before[name].flatten()[kept], parameter)
    assert channels_of(companions[1]) == channels_of(model) != channels_of(small(auxiliary=True))


def test_a_companion_of_another_shape_is_refused_before_anything_is_cut():
    model, other = small(), build("fastscnn", 4, ARGUMENTS)
    before = channels_of(model)
    with pytest.raises(ValueError, match="companion"):
        slim_to(model, 0.5, companions=[other])
    assert channels_of(model) == before


def test_the_caller_says_what_matters():
    model = small()
    wanted = {"classifier.1.pointwise.norm": torch.arange(32.0).flip(0)}  # the first matter most
    scores = {name: score for name, score in scale_scores(model).items() if "classifier" not in name}
    norm = model.classifier[1].pointwise.norm
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(1.0, 2.0, 32))  # by scale the last would
    before = norm.weight.detach().clone()
    slim_to(model, 0.6, round_to=1, importance={**scores, **wanted})
    assert 4 < norm.num_features < 32
    assert torch.equal(norm.weight, before[: norm.num_features])


def test_scores_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"classifier.1.pointwise.norm have shape \(7,\), it has 32"):
        slim_to(small(), 0.6, importance={"classifier.1.pointwise.norm": torch.ones(7)})


def test_branches_are_slimmed_by_their_shares():
    arguments = {**ARGUMENTS, "bottlenecks": [32, 32, 128]}
    even, uneven = build("fastscnn", 5, arguments), build("fastscnn", 5, arguments)
    shares = {"pyramid bin 1": 2.0, "pyramid bin 3": 0.5, "pyramid bin 6": 0.0}
    slim_to(even, 0.7, round_to=1)
    report = slim_to(uneven, 0.7, round_to=1, shares=shares)
    assert report.macs_after == pytest.approx(report.target_macs, rel=0.03)
    widths = [branch.conv.out_channels for branch in uneven.pyramid.branches]
    assert len({branch.conv.out_channels for branch in even.pyramid.branches}) == 1
    assert widths[3] == 32
    assert widths[0] < widths[1] < widths[2] < widths[3]
    lost = [32 - width for width in widths]
    assert lost[0] == pytest.approx(2 * lost[1], abs=1)
    assert lost[2] == pytest.approx(0.5 * lost[1], abs=1)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"pyramid bin 9": 1.0}, "no branch 'pyramid bin 9'; there are: pyramid bin 1"),
        ({"pyramid bin 1": -1.0}, "0 or more"),
    ],
)
def test_impossible_shares_are_refused(shares: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        slim_to(small(), 0.5, shares=shares)


def test_a_target_that_is_met_already_changes_nothing():
    model = nn.Conv2d(3, 5, 1)  # nothing in it could be removed, and nothing has to be
    report = slim(model, target_macs=10**9, size=SIZE)
    assert report.reached
    assert report.macs_after == report.macs_before
    assert model.weight.shape[0] == 5


def test_a_target_between_two_even_settings_is_met_too():
    report = slim_to(small(), 0.185546875, round_to=1)
    assert report.macs_after == pytest.approx(report.target_macs, rel=0.03)


def test_an_unreachable_target_is_reported():
    report = slim(small(), target_macs=1, size=SIZE, min_channels=6, round_to=2)
    assert not report.reached
    assert {out for name, (_, out, _) in report.channels.items() if name != "classifier.3"} == {6}


def test_training_modes_frozen_layers_and_memory_format_stay():
    model = small().to(memory_format=torch.channels_last).train()
    model.pyramid.eval()
    model.downsample.requires_grad_(False)
    slim_to(model, 0.5, round_to=8)
    assert model.training
    assert model.bottlenecks[0].expand.norm.training
    assert not model.pyramid.project.norm.training
    assert not any(p.requires_grad for p in model.downsample.parameters())
    assert all(p.requires_grad for p in model.bottlenecks.parameters())
    assert model.downsample[0].conv.out_channels < 16
    assert model.downsample[0].conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_slimming_inside_inference_mode():
    model = small()
    with torch.inference_mode():
        report = slim_to(model, 0.5)
    assert_sound(model, report)


@pytest.mark.parametrize("wrong", [{"target_macs": 0}, {"round_to": 0}, {"min_channels": 0}])
def test_impossible_arguments_are_refused(wrong: dict[str, int]):
    with pytest.raises(ValueError, match="at least 1"):
        slim(small(), **{"target_macs": 10**6, "size": SIZE, **wrong})
