"""Recalibration: re-estimating the running statistics of batch normalisation after slimming.

The removed channels contributed to the mean and the variance of the layers behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dance_ondevice.images.labels import IGNORE
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.cost import evaluating, training_only
from dance_ondevice.models.forward import outputs, to_tensor
from dance_ondevice.training.batches import BatchOptions, BatchPlan, TrainingSample


def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set the running mean and variance of each batch normalisation to their averages over some batches.

    Each batch counts the same, earlier statistics are dropped, and no weight changes. Everything but batch
    normalisation runs as in inference; heads that a model declares ``training_only`` run as well. A layer
    that saw no batch (one that did not run, or whose input had a single value a channel) keeps its
    statistics, and so do all when a batch fails.

    Args:
        model: Model in any mode, which it keeps.
        batches: Normalised images (N, 3, H, W), two or more in each batch, on any device.

    Returns:
        Number of layers with new statistics.
    """
    layers = [m for _, m in model.named_modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    before = [_Before(layer) for layer in layers]
    device = next(model.parameters()).device
    renewed = 0
    try:
        with evaluating(model), torch.no_grad():
            model.training = bool(training_only(model))
            for layer in layers:
                layer.train()
                layer.momentum = None  # for torch: the average over all batches since the reset
                layer.reset_running_stats()
            for batch in batches:
                outputs(model, batch.to(device))
    except BaseException:
        for one in before:
            one.restore()
        raise
    finally:
        for one in before:
            one.layer.momentum = one.momentum
    for one in before:
        if int(one.layer.num_batches_tracked or 0) == 0:
            one.restore()
        else:
            renewed += 1
    return renewed


def clean_batches(
    samples: Sequence[TrainingSample], normalisation: Normalisation, *, batch_size: int, most: int, seed: int
) -> Iterator[Tensor]:
    """Batches (N, 3, H, W) of images as inference will see them, without augmentation, for `recalibrate`.

    Args:
        samples: Samples, each used at its own size times its ``scale``.
        normalisation: Normalisation of the model's input.
        batch_size: Images in each batch.
        most: Largest number of batches; each sample is used once at most.
        seed: Seed of the choice of samples.

    Raises:
        SampleError: A file is missing or invalid.
        ValueError: There are no samples.
    """
    options = BatchOptions(num_classes=IGNORE, batch_size=batch_size, augment=False, seed=seed)
    plan = BatchPlan(samples, options)
    for step in range(min(most, plan.steps_per_epoch)):
        yield torch.cat([to_tensor(image, normalisation) for image in plan.load(step).images])


class _Before:
    """A layer and its earlier statistics."""

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer = layer
        self.momentum = layer.momentum
        self._buffers = {name: value.clone() for name, value in layer.named_buffers(recurse=False)}

    def restore(self) -> None:
        for name, value in self.layer.named_buffers(recurse=False):
            value.copy_(self._buffers[name])
