from __future__ import annotations

import pytest
import torch
from torch import nn

from dance_ondevice.models.cost import count_macs, count_parameters, evaluating, layer_macs, training_macs


class TwoHeads(nn.Module):
    training_only = ("extra",)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.extra = nn.Conv2d(8, 2, 1)
        self.extra_norm = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x)
        return out


def test_macs_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 12, 1, groups=2),
        nn.ConvTranspose2d(12, 5, 2, stride=2),
    )
    found = layer_macs(model, 32, 64)
    assert found == {
        "0": 16 * 32 * 8 * 27,
        "2": 16 * 32 * 8 * 9,
        "3": 16 * 32 * 12 * 4,
        "4": 16 * 32 * 12 * 5 * 4,
    }
    assert count_macs(model, 32, 64) == sum(found.values())


@pytest.mark.parametrize(
    ("frozen", "passes"),
    [
        ((), (3, 3, 3)),
        (("0",), (1, 3, 3)),
        (("0", "1"), (1, 1, 3)),
        (("1",), (3, 2, 3)),  # its input's gradient is needed still
        (("1", "2"), (3, 2, 2)),
        (("0", "1", "2"), (1, 1, 1)),
    ],
)
def test_training_costs_what_the_backward_pass_computes(frozen: tuple[str, ...], passes: tuple[int, ...]):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 5, 1)).train()
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    forward = (24, 32, 20)
    with torch.no_grad():
        found = training_macs(model, 32, 64)
    assert found == 32 * 64 * sum(p * macs for p, macs in zip(passes, forward, strict=True))
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert not model[0]._forward_hooks


def test_normalisation_that_is_trained_is_reached_through_frozen_layers():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1))
    model[1:].requires_grad_(False)
    assert training_macs(model, 32, 32) == 2 * count_macs(model, 32, 32)
    assert model[0].num_batches_tracked == 0


def test_macs_of_linear_layers():
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(3, 7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1] * self.gate(x.mean(dim=(2, 3))).unsqueeze(2).unsqueeze(3)

    assert count_macs(Gate(), 32, 32) == 21


def test_macs_include_the_padding():
    model = nn.Conv2d(3, 4, 1)
    assert count_macs(model, 1, 33) == 32 * 64 * 12


def test_a_layer_that_runs_twice_counts_twice():
    layer = nn.Conv2d(3, 3, 1)
    assert layer_macs(nn.Sequential(layer, layer), 32, 32) == {"0": 2 * 32 * 32 * 9}


def test_counting_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    model[1].eval()
    count_macs(model, 32, 32)
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert model[1].num_batches_tracked == 0
    assert not model[0]._forward_hooks


def test_modes_come_back_after_an_error():
    model = nn.Sequential(nn.Dropout())
    seen = []

    def fail() -> None:
        with evaluating(model):
            seen.append(model[0].training)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [False]
    assert model[0].training


def test_what_only_training_uses_is_left_out():
    model = TwoHeads()
    assert count_parameters(model) == 8 * 27 + 16  # a name that merely begins like it, extra_norm, counts


def test_an_empty_image_is_refused():
    with pytest.raises(ValueError, match="0 x 3"):
        count_macs(nn.Conv2d(3, 4, 1), 0, 3)
    with pytest.raises(ValueError, match="3 x 0"):
        training_macs(nn.Conv2d(3, 4, 1), 3, 0)
