"""Normalisation statistics by condition: exact, cheap to swap, and harmless to the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dance_ondevice.conditions import statistics as conditions
from dance_ondevice.conditions.arrays import StatisticsMismatch
from dance_ondevice.conditions.statistics import Estimator, NormStatistics
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.fastscnn import FastSCNN

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")

PLAIN = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Toy(nn.Module):
    """One batch norm on the image itself, so that its statistics can be told by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.drop(self.norm(x)))
        return out


class Pooled(nn.Module):
    """A batch norm of PyTorch's own behind a global average: one value a channel for one image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(x + self.norm(x.mean((2, 3), keepdim=True)))
        return out


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (32, 64)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 60 + 40 * i, (*size, 3), np.uint8) for i in range(count)]


def frozen_copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(model: nn.Module, before: dict[str, Tensor]) -> None:
    after = model.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_statistics_are_those_of_all_pixels_whatever_the_batches(batch_size: int) -> None:
    images = pictures(5)
    found = conditions.estimate(Toy().eval(), images, PLAIN, batch_size=batch_size, prior_values=0)
    pixels = np.concatenate([image[..., ::-1].reshape(-1, 3) for image in images]) / 255
    mean, variance = found.layers["norm"]
    np.testing.assert_allclose(mean.numpy(), pixels.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance.numpy(), pixels.var(axis=0), rtol=1e-4)


@pytest.mark.parametrize("blend", [0.0, 0.25, 1.0])
def test_the_models_own_statistics_are_the_prior(blend: float) -> None:
    model, images = Toy().eval(), pictures(2)
    alone = conditions.estimate(model, images, PLAIN, prior_values=0).layers["norm"]
    values = 2 * 32 * 64
    weight = blend * values / (values + 1000)
    found = conditions.estimate(model, images, PLAIN, blend=blend, prior_values=1000).layers["norm"]
    own = (torch.zeros(3), torch.ones(3))
    for mixed, old, new in zip(found, own, alone, strict=True):
        torch.testing.assert_close(mixed, (1 - weight) * old + weight * new)


def test_estimating_leaves_the_model_as_it_was() -> None:
    model = FastSCNN(3, auxiliary=True).train()
    model.bottlenecks.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    before = frozen_copy(model)
    counter = model.downsample[0].norm.num_batches_tracked
    conditions.estimate(model, pictures(3), PLAIN, batch_size=2)
    assert_same(model, before)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.downsample[0].norm.num_batches_tracked is counter
    assert model.downsample[0].norm.momentum == 0.1
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_failing_image_leaves_the_model_as_it_was_too() -> None:
    model = Toy().eval()
    before = frozen_copy(model)
    with pytest.raises(ValueError, match="uint8"):
        conditions.estimate(model, [pictures(1)[0], np.zeros((8, 8, 3), np.float32)], PLAIN, batch_size=1)
    assert_same(model, before)
    assert not model.norm.training


def test_switching_back_is_bit_for_bit() -> None:
    model = FastSCNN(3).eval()
    x = torch.rand(1, 3, 64, 96)
    base = conditions.capture(model)
    before = frozen_copy(model)
    with torch.inference_mode():
        day = model(x)
        conditions.apply(model, conditions.estimate(model, pictures(4), PLAIN))
        dusk = model(x)
        conditions.apply(model, base)
        again = model(x)
    assert not torch.equal(day, dusk)
    assert torch.equal(day, again)
    assert_same(model, before)


def test_what_was_captured_does_not_follow_the_model() -> None:
    model = Toy().eval()
    statistics = conditions.capture(model, affine=True)
    model.norm.running_mean += 1
    model.norm.weight.data += 1
    assert [tensor.mean().item() for tensor in statistics.layers["norm"]] == [0.0, 1.0, 1.0, 0.0]
    conditions.apply(model, statistics)
    assert model.norm.running_mean.sum() == 0
    assert torch.equal(model.norm.weight.data, torch.ones(3))


def test_a_step_at_a_time_gives_the_same() -> None:
    model, images = FastSCNN(3).eval(), pictures(3)
    at_once = conditions.estimate(model, images, PLAIN, blend=0.7, batch_size=1)
    estimator = Estimator(model, PLAIN)
    base = conditions.capture(model)
    for image in images:
        estimator.add(image)
        conditions.apply(model, at_once)  # whatever serves in between
    found = estimator.result(base, blend=0.7)
    assert estimator.images == 3
    for name, layer in at_once.layers.items():
        for one, other in zip(layer, found.layers[name], strict=True):
            torch.testing.assert_close(one, other)


def test_layers_that_do_not_run_in_inference_keep_theirs() -> None:
    model = FastSCNN(3, auxiliary=True).eval()
    found = conditions.estimate(model, pictures(2), PLAIN)
    for name, layer in conditions.capture(model).layers.items():
        same = all(torch.equal(a, b) for a, b in zip(layer, found.layers[name], strict=True))
        assert same == name.startswith("auxiliary"), name


def test_a_single_value_a_channel_is_no_obstacle() -> None:
    model, images = Pooled().eval(), pictures(3)
    found = conditions.estimate(model, images, PLAIN, batch_size=1, prior_values=0).layers["norm"]
    means = np.stack([image[..., ::-1].reshape(-1, 3).mean(axis=0) / 255 for image in images])
    np.testing.assert_allclose(found[0].numpy(), means.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found[1].numpy(), means.var(axis=0), rtol=1e-3)


def test_few_values_count_little_by_default() -> None:
    found = conditions.estimate(Pooled().eval(), pictures(3), PLAIN, batch_size=1).layers["norm"]
    assert (found[1] > 0.98).all()


def test_statistics_of_another_model_are_refused_whole() -> None:
    model = FastSCNN(3).eval()
    before = frozen_copy(model)
    layers = dict(conditions.capture(FastSCNN(3).eval()).layers)
    for tensors in layers.values():
        tensors[0].add_(1)
    layers["fusion.deep.norm"] = (torch.zeros(7), torch.ones(7))
    with pytest.raises(StatisticsMismatch, match=r"fusion\.deep\.norm"):
        conditions.apply(model, NormStatistics(layers))
    with pytest.raises(StatisticsMismatch, match="elsewhere"):
        conditions.apply(model, NormStatistics({"elsewhere": (torch.zeros(1), torch.ones(1))}))
    assert_same(model, before)


def test_a_model_without_batch_norm_says_so() -> None:
    model = nn.Conv2d(3, 2, 1)
    with pytest.raises(ValueError, match="Conv2d has no batch norm"):
        conditions.estimate(model, pictures(1), PLAIN)


@pytest.mark.parametrize(("images", "blend", "said"), [(0, 0.5, "no images"), (1, 1.5, "blend is 1.5")])
def test_impossible_estimates_say_why(images: int, blend: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        conditions.estimate(Toy().eval(), pictures(images), PLAIN, blend=blend)


def test_trust_grows_with_the_images() -> None:
    assert conditions.trust(0) == 0.0
    assert conditions.trust(8) == 0.5
    assert conditions.trust(16) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="-1"):
        conditions.trust(-1)


def test_a_condition_of_the_default_model_takes_kilobytes() -> None:
    assert conditions.capture(FastSCNN(11)).nbytes < 100_000
