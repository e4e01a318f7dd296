"""Running statistics are those of the batches, exactly, and nothing else moves."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import SMALL
from torch import Tensor, nn

from dance_ondevice.images.codec import encode_png
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.forward import to_tensor
from dance_ondevice.models.registry import build
from dance_ondevice.training.batches import TrainingSample
from dance_ondevice.training.recalibration import clean_batches, recalibrate

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")


class Net(nn.Module):
    """The dropout would move the second statistics if it dropped anything."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.9)
        self.second = nn.BatchNorm2d(3, momentum=0.3)
        self.fixed = nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fixed(self.second(self.drop(self.first(x))))
        return out


def test_statistics_are_the_averages_over_the_batches() -> None:
    model = Net().train()
    model.second.eval()
    model(torch.rand(2, 3, 32, 32) + 9.0)  # to be forgotten
    batches = [torch.rand(2, 3, 32, 32) * k for k in (1.0, 2.0, 3.0)]
    weights = {name: p.clone() for name, p in model.named_parameters()}
    assert recalibrate(model, batches) == 2
    mean = torch.stack([b.mean(dim=(0, 2, 3)) for b in batches]).mean(dim=0)
    variance = torch.stack([b.transpose(0, 1).flatten(1).var(dim=1) for b in batches]).mean(dim=0)
    assert torch.allclose(model.first.running_mean, mean, atol=1e-6)
    assert torch.allclose(model.first.running_var, variance, atol=1e-6)
    assert torch.allclose(model.second.running_mean, torch.zeros(3), atol=1e-5)
    assert torch.allclose(model.second.running_var, torch.ones(3), rtol=1e-2)
    assert (model.first.momentum, model.second.momentum) == (0.1, 0.3)
    assert [model.training, model.first.training, model.second.training] == [True, True, False]
    assert all(torch.equal(p, weights[name]) and p.grad is None for name, p in model.named_parameters())


def test_heads_of_training_are_recalibrated_and_single_values_keep_theirs() -> None:
    """One image leaves the 1 x 1 bin one value a channel, of which no variance can be taken."""
    model = build("fastscnn", 5, SMALL["fastscnn"]).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.running_mean, 5.0)
    layers = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert recalibrate(model, [torch.rand(1, 3, 64, 64)]) == layers - 1
    assert (model.pyramid.branches[0].norm.running_mean == 5.0).all()
    assert (model.pyramid.branches[1].norm.running_mean != 5.0).all()
    assert (model.auxiliary[1][0].pointwise.norm.running_mean != 5.0).all()
    assert not model.training
    assert recalibrate(model, [torch.rand(2, 3, 64, 64)]) == layers


@pytest.mark.parametrize("batches", [[], [torch.rand(2, 3, 32, 32), torch.rand(2, 4, 32, 32)]])
def test_without_batches_or_with_a_bad_one_all_is_as_before(batches: list[Tensor]) -> None:
    model = Net().train()
    model(torch.rand(2, 3, 32, 32))
    before = copy.deepcopy(model.state_dict())
    if batches:
        with pytest.raises(RuntimeError):
            recalibrate(model, batches)
    else:
        assert recalibrate(model, batches) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.first.momentum == 0.1
    assert model.first.training


def test_clean_batches_are_the_images_as_inference_sees_them(tmp_path: Path) -> None:
    random, samples, images = np.random.default_rng(0), [], []
    for index in range(5):
        image = random.integers(0, 256, (32, 48, 3), dtype=np.uint8)
        (tmp_path / f"{index}.png").write_bytes(encode_png(image))
        (tmp_path / f"{index}.label.png").write_bytes(encode_png(np.full((32, 48), 255, np.uint8)))
        samples.append(TrainingSample(image=tmp_path / f"{index}.png", label=tmp_path / f"{index}.label.png"))
        images.append(to_tensor(image, Normalisation())[0])
    found = list(clean_batches(samples, Normalisation(), batch_size=2, most=9, seed=0))
    assert [batch.shape for batch in found] == [(2, 3, 32, 48)] * 3
    seen = {
        next(i for i, image in enumerate(images) if torch.allclose(x, image, atol=1e-4))
        for batch in found
        for x in batch
    }
    assert seen == set(range(5))
    assert len(list(clean_batches(samples, Normalisation(), batch_size=2, most=1, seed=0))) == 1
