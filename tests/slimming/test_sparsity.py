"""Scales are pressed towards zero where channels could go, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_models import SMALL
from torch import nn

from dance_ondevice.models.registry import build
from dance_ondevice.slimming.sparsity import add_sparsity_gradient, sparsity_factors

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")


class Grouped(nn.Sequential):
    """The first normalisation belongs to a grouped convolution, whose blocks could only lose a half each."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 1),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, padding=1, groups=4),
            nn.Conv2d(8, 12, 1),
            nn.BatchNorm2d(12),
            nn.Conv2d(12, 5, 1),
        )


def gradients(model: nn.Module) -> dict[str, Any]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def test_the_subgradient_is_added_to_scales_that_can_go() -> None:
    model = Grouped()
    with torch.no_grad():
        model[4].weight.copy_(torch.tensor([1.0, -2.0, 0.0] * 4))
    model(torch.rand(2, 3, 8, 8)).square().mean().backward()
    before = gradients(model)
    add_sparsity_gradient(model, 0.5)
    after = gradients(model)
    added = after.pop("4.weight") - before.pop("4.weight")
    assert torch.allclose(added, 0.5 * torch.tensor([1.0, -1.0, 0.0] * 4))
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_factors_by_branch_and_nothing_without_a_gradient() -> None:
    model = build("fastscnn", 5, SMALL["fastscnn"])
    factors = sparsity_factors(model, {"pyramid bin 1": 3.0, "pyramid bin 6": 0.0})
    norms = {name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert set(factors) == norms
    assert factors["pyramid.branches.0.norm"] == 3.0
    assert factors["pyramid.branches.3.norm"] == 0.0
    assert factors["pyramid.branches.1.norm"] == factors["fusion.deep.norm"] == 1.0
    add_sparsity_gradient(model, 0.1, factors)
    assert not any(p.grad is not None for p in model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    add_sparsity_gradient(model, 0.1, {"pyramid.branches.0.norm": 3.0})
    pressed = {name for name, p in model.named_parameters() if p.grad.any()}
    assert pressed == {"pyramid.branches.0.norm.weight"}
    assert torch.allclose(model.pyramid.branches[0].norm.weight.grad, torch.full((6,), 0.3))


def test_pressed_scales_shrink_in_training() -> None:
    model = Grouped()
    factors = sparsity_factors(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(12):
        optimiser.zero_grad()
        (0.0 * model(torch.rand(1, 3, 8, 8)).sum()).backward()
        add_sparsity_gradient(model, 0.5, factors)
        optimiser.step()
    assert model[4].weight.abs().max() < 0.5
    assert (model[1].weight == 1.0).all()


@pytest.mark.parametrize("strength", [-1e-4, float("nan"), float("inf")])
def test_an_impossible_strength_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength is"):
        add_sparsity_gradient(Grouped(), strength, {})
