"""Scores of channels: what the loss would say if a channel were gone."""

from __future__ import annotations

import copy

import pytest
import torch
from small_models import SMALL
from torch import Tensor, nn

from dance_ondevice.models.registry import build
from dance_ondevice.slimming.importance import (
    Importance,
    TaylorImportance,
    branch_scores,
    combined_scores,
    scale_scores,
    scores_by,
)
from dance_ondevice.slimming.slim import slim

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 8, 1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.relu(self.up(torch.tanh(self.second(self.norm(self.first(x)))))))
        return out


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().mean()


def test_a_taylor_score_is_the_change_of_the_loss_when_a_channel_fades() -> None:
    """Against the difference quotient: all that writes the channel is made smaller by a ten-thousandth."""
    model, x = Net().double().eval(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    taylor = TaylorImportance(model)
    loss_of(model, x).backward()
    taylor.accumulate()
    scores = taylor.scores()
    assert set(scores) == {"first", "norm", "second", "up", "last"}
    step = 1e-4
    for name, score in scores.items():
        for channel in range(score.numel()):
            faded = copy.deepcopy(model)
            layer = faded.get_submodule(name)
            with torch.no_grad():
                if name == "up":  # two groups of two outputs, which read four inputs each
                    group, within = divmod(channel, 2)
                    layer.weight[4 * group : 4 * group + 4, within] *= 1 - step
                else:
                    layer.weight[channel] *= 1 - step
                if layer.bias is not None:
                    layer.bias[channel] *= 1 - step
                change = (loss_of(model, x) - loss_of(faded, x)) / step
            assert float(score[channel]) == pytest.approx(abs(float(change)), rel=1e-2, abs=1e-6)


def test_batches_are_averaged_and_opposite_ones_do_not_cancel() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False))
    weight = model[0].weight
    with torch.no_grad():
        weight.copy_(torch.tensor([2.0, -3.0]).view(2, 1, 1, 1))
    taylor = TaylorImportance(model)
    for sign in (1.0, -1.0):
        weight.grad = sign * torch.ones_like(weight)
        taylor.accumulate()
    assert taylor.scores()["0"].tolist() == [2.0, 3.0]
    assert taylor.batches == 2


def test_without_gradients_there_are_no_scores() -> None:
    with pytest.raises(ValueError, match="no gradients"):
        TaylorImportance(Net()).scores()
    with pytest.raises(ValueError, match="needs the gradients"):
        scores_by("taylor", Net())
    with pytest.raises(ValueError, match="must be 'bn_scale', 'taylor' or 'combined'"):
        scores_by("size", Net())  # type: ignore[arg-type]  # no such name


def test_scale_scores_are_relative_to_their_layer() -> None:
    model = Net()
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([1.0, -1.0, 2.0, 0.0, 1.0, 1.0]))
    scores = scale_scores(model)
    assert torch.allclose(scores["norm"], model.norm.weight.abs().double())
    assert all(score.mean() == pytest.approx(1.0) for score in scores.values())
    assert scores["up"].shape == (4,)


def test_combined_scores_weigh_both_alike() -> None:
    one = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([5.0])}
    other = {"a": torch.tensor([30.0, 10.0])}
    found = combined_scores(one, other)
    assert found["a"].tolist() == [1.0, 1.0]
    assert found["b"].tolist() == [1.0]


@pytest.mark.parametrize("kind", ["bn_scale", "taylor", "combined"])
def test_a_channel_that_does_nothing_goes_first_by_every_name(kind: Importance) -> None:
    model = build("fastscnn", 5, {**SMALL["fastscnn"], "auxiliary": False})
    norm = model.classifier[1].pointwise.norm
    dead = torch.tensor([1, 4, 9, 13])
    with torch.no_grad():
        norm.weight[dead] = 0.0
        norm.bias[dead] = 0.0
        norm.weight[0] = 7.0
    taylor = TaylorImportance(model)
    model.train()
    model(torch.rand(4, 3, 64, 64)).square().mean().backward()
    taylor.accumulate()
    slim(
        model,
        target_macs=round(0.6 * 847008),
        size=(64, 96),
        round_to=1,
        importance=scores_by(kind, model, taylor),
    )
    assert 4 < norm.num_features <= 12
    assert (norm.weight != 0).all()
    assert 7.0 in norm.weight


def test_a_branch_that_says_little_has_a_low_score() -> None:
    model = build("fastscnn", 5, {**SMALL["fastscnn"], "auxiliary": False})
    with torch.no_grad():
        model.pyramid.branches[2].norm.weight.mul_(0.1)
    scores = branch_scores(model)
    assert list(scores) == ["pyramid bin 1", "pyramid bin 2", "pyramid bin 3", "pyramid bin 6"]
    assert sum(scores.values()) == pytest.approx(4.0)
    assert scores["pyramid bin 3"] == pytest.approx(0.1 * scores["pyramid bin 1"])
    taylor = TaylorImportance(model)
    with torch.no_grad():
        model.pyramid.project.conv.weight[:, 24:30] = 0.0  # nobody listens to the first bin
    model.train()
    model(torch.rand(4, 3, 64, 64)).square().mean().backward()
    taylor.accumulate()
    by_loss = branch_scores(model, taylor)
    assert by_loss["pyramid bin 1"] == pytest.approx(0.0, abs=1e-9)
    assert by_loss["pyramid bin 2"] > 0.1
    assert branch_scores(Net()) == {}
