"""The training loss against its definition, and how classes are weighed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dance_ondevice.images.labels import IGNORE
from dance_ondevice.training.losses import class_weights, weighted_cross_entropy

pytestmark = pytest.mark.usefixtures("one_thread_one_seed")


def test_weighted_cross_entropy_against_its_definition() -> None:
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(2, 3, 4, 5)), dtype=torch.float32)
    labels = torch.tensor(rng.choice([0, 1, 2, IGNORE], size=(2, 4, 5)).astype(np.uint8))
    weights, classes = torch.tensor([0.5, 1.5]), torch.tensor([1.0, 2.0, 5.0])
    above, below = 0.0, 0.0
    logarithms = logits.log_softmax(dim=1)
    for i, y, x in np.ndindex(2, 4, 5):
        target = int(labels[i, y, x])
        if target != IGNORE:
            above -= float(weights[i] * classes[target] * logarithms[i, target, y, x])
            below += float(classes[target])
    assert float(weighted_cross_entropy(logits, labels, weights, classes)) == pytest.approx(
        above / below, rel=1e-5
    )


def test_loss_of_nothing_labelled_is_zero_and_has_no_gradient() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.full((2, 4, 4), IGNORE, dtype=torch.uint8)
    loss = weighted_cross_entropy(logits, labels, torch.ones(2), torch.ones(3))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_class_weights() -> None:
    frequencies = np.array([0.9, 0.09, 0.01, 0.0])
    weights = class_weights(frequencies)
    assert (np.diff(weights) >= 0).all()
    assert (weights * frequencies).sum() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(math.log(1.02 + 0.9) / math.log(1.02 + 0.09))
    assert weights.max() / weights.min() <= 10 + 1e-9
    assert np.isfinite(class_weights(np.zeros(3))).all()
