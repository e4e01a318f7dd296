"""What every architecture must do: any size, slimming, checkpoints, training in low precision."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import SMALL
from torch import Tensor, nn

from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.channels import channels_of
from dance_ondevice.models.checkpoint import load, save
from dance_ondevice.models.cost import count_macs, count_parameters, training_only
from dance_ondevice.models.forward import logits, outputs
from dance_ondevice.models.registry import ARCHITECTURES, build
from dance_ondevice.slimming.slim import slim
from dance_ondevice.training.precision import Precision, autocast, exact_layers

CLASSES = 5
SIZE = (64, 96)
every_architecture = pytest.mark.parametrize("name", SMALL)


def small(name: str) -> nn.Module:
    return build(name, CLASSES, SMALL[name])


def test_none_is_forgotten():
    assert set(SMALL) == set(ARCHITECTURES)


@every_architecture
@pytest.mark.parametrize("size", [(1, 1), (17, 13), (40, 100)])
def test_any_size_is_classified(name: str, size: tuple[int, int]):
    model = small(name).eval()
    assert model(torch.rand(2, 3, *size)).shape[:2] == (2, CLASSES)
    assert logits(model, torch.rand(1, 3, *size)).shape == (1, CLASSES, *size)


@every_architecture
def test_all_of_it_trains_even_on_one_image(name: str):
    model = small(name).train()
    heads = outputs(model, torch.rand(1, 3, 64, 96))
    assert all(head.shape == (1, CLASSES, 64, 96) for head in heads)
    torch.stack([head.square().mean() for head in heads]).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@every_architecture
def test_inference_runs_all_but_the_training_heads(name: str):
    model = small(name).eval()
    logits(model, torch.rand(1, 3, 64, 64)).square().mean().backward()
    unused = {n for n, p in model.named_parameters() if p.grad is None}
    prefixes = tuple(f"{n}." for n in training_only(model))
    assert unused == {n for n, _ in model.named_parameters() if prefixes and n.startswith(prefixes)}
    assert count_parameters(model) == sum(p.numel() for p in model.parameters() if p.grad is not None)


@every_architecture
def test_multi_scale_groups_are_disjoint_modules_with_weights(name: str):
    model = small(name)
    groups = model.multi_scale_groups()
    assert len(groups) >= 2
    owners: dict[nn.Parameter, str] = {}
    for group, names in groups.items():
        for module in names:
            parameters = list(model.get_submodule(module).parameters())
            assert parameters, module
            for parameter in parameters:
                assert owners.setdefault(parameter, group) == group
    assert set(owners.values()) == set(groups)


@pytest.mark.slow
@every_architecture
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fractions=st.lists(st.floats(0.05, 0.95), min_size=1, max_size=2),
    round_to=st.sampled_from([1, 2, 8]),
)
def test_a_slimmed_model_comes_back_bit_for_bit(
    name: str, fractions: list[float], round_to: int, tmp_path: Path
):
    model = small(name)
    dense = count_macs(model, *SIZE)
    for fraction in fractions:
        target = round(fraction * dense)
        report = slim(model, target_macs=target, size=SIZE, round_to=round_to)
        if report.macs_before > target and report.reached:
            assert report.macs_after == pytest.approx(target, rel=0.03)
        assert report.macs_after == count_macs(model, *SIZE)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # so that the statistics are worth saving
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    card = ModelCard(
        architecture=name,
        arguments=dict(SMALL[name]),
        classes=tuple("abcde"),
        macs_at=SIZE,
        unslimmed_macs=dense,
    )
    save(tmp_path, model, card)
    found, read = load(tmp_path)
    assert read.channels == channels_of(model)
    x = torch.rand(1, 3, 33, 20)
    assert torch.equal(logits(found, x), logits(model.eval(), x))
    for module in found.modules():  # the heads of training too
        module.training = not isinstance(module, (nn.BatchNorm2d, nn.Dropout))
    for module in model.modules():
        module.training = not isinstance(module, (nn.BatchNorm2d, nn.Dropout))
    for ours, theirs in zip(outputs(model, x), outputs(found, x), strict=True):
        assert torch.equal(ours, theirs)


@every_architecture
def test_slimming_reaches_every_layer_but_the_classifiers(name: str):
    model = small(name)
    before = channels_of(model)
    slim(model, target_macs=1, size=SIZE, round_to=1)
    after = channels_of(model)
    classifiers = {layer for layer, (_, out, _) in before.items() if out == CLASSES}
    assert {after[layer][1] for layer in classifiers} == {CLASSES}
    slimmed = after.keys() - classifiers
    if name == "espnetv2":  # grouped convolutions tie its trunk, which could only be cut by a third or more
        slimmed = {layer for layer in slimmed if ".stages." in layer or "level4.0.spp_dw" in layer}
    assert {after[layer][1] for layer in slimmed} == {4}


def labelled_scene() -> tuple[Tensor, Tensor]:
    """Images (4, 3, 96, 96) whose colours tell the labels (4, 96, 96)."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randint(0, CLASSES, (4, 6, 6), generator=generator)
    labels = coarse.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
    colours = torch.randn(CLASSES, 3, generator=generator)
    noise = 0.3 * torch.randn(4, 3, 96, 96, generator=generator)
    return (colours[labels].permute(0, 3, 1, 2) + noise), labels


def gradients(model: nn.Module, x: Tensor, labels: Tensor, precision: Precision) -> dict[str, Tensor]:
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)
    with exact_layers(model, precision), autocast(model, precision):
        heads = outputs(model, x.contiguous(memory_format=torch.channels_last))
    torch.stack([F.cross_entropy(head.float(), labels) for head in heads]).sum().backward()
    return {name: p.grad for name, p in model.named_parameters()}


@every_architecture
def test_gradients_in_bf16_are_those_of_fp32(name: str):
    """With fixed statistics: those of a batch, in an untrained network, multiply rounding errors, whatever
    computes them."""
    model, (x, labels) = small(name), labelled_scene()
    for _ in range(4):
        outputs(model.train(), x)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.Dropout)):
            module.eval()
    exact = gradients(model, x, labels, "fp32")
    low = gradients(model, x, labels, "bf16")
    whole = torch.stack([g.norm() for g in exact.values()]).norm()
    missed = {n: float((low[n] - g).norm() / (g.norm() + 1e-3 * whole)) for n, g in exact.items()}
    assert torch.stack([(low[n] - g).norm() for n, g in exact.items()]).norm() < 0.05 * whole
    assert max(missed.values()) < 0.3, max(missed, key=missed.__getitem__)


@every_architecture
def test_steps_in_bf16_make_the_loss_smaller(name: str):
    model, (x, labels) = small(name).train(), labelled_scene()
    x = x.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same channels dropped each time
            with exact_layers(model, "bf16"), autocast(model, "bf16"):
                heads = outputs(model, x)
        loss = torch.stack([F.cross_entropy(head.float(), labels) for head in heads]).sum()
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]
