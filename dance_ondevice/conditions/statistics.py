"""Normalisation statistics by condition: day, dusk and rain have their own, and share every weight.

A batch norm holds the mean and variance of its inputs. A change of lighting changes these first, and they can
be measured again on unlabelled images (Schneider et al., "Improving robustness against common corruptions by
covariate shift adaptation", NeurIPS 2020; Nado et al., arXiv 2006.10963).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dance_ondevice.conditions.arrays import StatisticsMismatch
from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.cost import evaluating
from dance_ondevice.models.forward import logits, to_tensor

__all__ = [
    "PRIOR_VALUES",
    "Estimator",
    "NormStatistics",
    "apply",
    "capture",
    "estimate",
    "tensors_of_norms",
    "trust",
]

#: Weight of the model's own statistics, as a number of values of a channel.
PRIOR_VALUES = 512
#: Weight of the model's own statistics, as a number of images.
PRIOR_IMAGES = 8

#: Tensors (running_mean, running_var) of a batch norm, or (running_mean, running_var, weight, bias).
LayerStatistics = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class NormStatistics:
    """Normalisation statistics and learnt parameters of one condition.

    Attributes:
        layers: Tensors (running_mean, running_var), each (C,), by the batch norm's module name; if the
            condition has its own affine parameters too, (running_mean, running_var, weight, bias). They are
            never changed in place.
        learnt: Tensors that the condition has learnt for itself, by parameter name (see
            ``conditions.learning``). They are never changed in place.
    """

    layers: Mapping[str, LayerStatistics]
    learnt: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))
        object.__setattr__(self, "learnt", MappingProxyType(dict(self.learnt)))

    @property
    def nbytes(self) -> int:
        """Return the size of all tensors in bytes."""
        statistics = sum(tensor.nbytes for layer in self.layers.values() for tensor in layer)
        return statistics + sum(tensor.nbytes for tensor in self.learnt.values())

    def over(self, base: NormStatistics) -> NormStatistics:
        """Return these statistics, completed with the learnt tensors of ``base``.

        ``apply`` sets only the parameters that a condition names, so those of another condition would stay:
        conditions that share one model in turn must all name every parameter that any of them has learnt.
        """
        if base.learnt.keys() <= self.learnt.keys():
            return self
        return NormStatistics(self.layers, {**base.learnt, **self.learnt})


def capture(model: nn.Module, *, affine: bool = False, learnt: Iterable[str] = ()) -> NormStatistics:
    """Copy the statistics that the model uses now.

    Args:
        model: Model that no other thread runs.
        affine: True copies the weights and biases of its batch norms as well.
        learnt: Names of further parameters to copy.

    Raises:
        StatisticsMismatch: The model has no parameter with such a name.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        return NormStatistics(
            {
                name: tuple(tensor.detach().clone() for tensor in _tensors(norm, affine))
                for name, norm in _norms(model).items()
            },
            {name: _parameter(parameters, name).detach().clone() for name in learnt},
        )


def tensors_of_norms(model: nn.Module) -> list[LayerStatistics]:
    """Return the model's own tensors that :func:`capture` copies, affine parameters included."""
    return [_tensors(norm, True) for norm in _norms(model).values()]


def apply(model: nn.Module, statistics: NormStatistics) -> None:
    """Apply statistics to a model, by copying them into its buffers without any allocation.

    Affine and learnt parameters are set if the statistics hold them, and are unchanged otherwise: see
    :meth:`NormStatistics.over`.

    Raises:
        StatisticsMismatch: The statistics are of another model; the model is unchanged.
    """
    norms = _norms(model)
    pairs: list[tuple[Tensor, Tensor]] = []
    for name, layer in statistics.layers.items():
        norm = norms.get(name)
        own = _tensors(norm, len(layer) > 2) if norm is not None else ()
        if len(own) != len(layer) or any(a.shape != b.shape for a, b in zip(own, layer, strict=True)):
            raise StatisticsMismatch(
                f"the statistics do not fit batch norm {name!r} of this model: estimate them again"
            )
        pairs += zip(own, layer, strict=True)
    parameters = dict(model.named_parameters()) if statistics.learnt else {}
    for name, tensor in statistics.learnt.items():
        parameter = _parameter(parameters, name)
        if parameter.shape != tensor.shape:
            raise StatisticsMismatch(
                f"what was learnt for {name!r} has shape {list(tensor.shape)}, in this model it is "
                f"{list(parameter.shape)}: learn it again"
            )
        pairs.append((parameter, tensor))
    with torch.no_grad():
        for own_tensor, tensor in pairs:
            own_tensor.copy_(tensor)


class Estimator:
    """Estimator of a condition's statistics, fed image by image, so that a caller can do other work between.

    The inputs of each batch norm are measured while all batch norms normalise by the statistics of the images
    of one call, as in training. The result is over all images of all calls.
    """

    def __init__(self, model: nn.Module, normalisation: Normalisation) -> None:
        """Begin without any image.

        Args:
            model: Model that no other thread runs while images are added; it may run between calls.
            normalisation: Normalisation of the model's input.

        Raises:
            ValueError: The model has no batch norm.
        """
        self._model = model
        self._normalisation = normalisation
        self._moments = {name: _Moments(norm.num_features) for name, norm in _norms(model).items()}
        if not self._moments:
            raise ValueError(f"{type(model).__name__} has no batch norm to estimate statistics for")
        self.images = 0

    def add(self, *images: NDArray[np.uint8]) -> None:
        """Run the model on some images of one size; its statistics and its mode are unchanged afterwards.

        Args:
            images: Images (h, w, 3) uint8 BGR, at the resolution to infer at.
        """
        norms = _norms(self._model)
        hooks = [
            norms[name].register_forward_pre_hook(lambda norm, inputs, m=moments: _look(norm, inputs[0], m))
            for name, moments in self._moments.items()
        ]
        device = next(self._model.parameters()).device
        try:
            with _normalising_by_batch(self._model, norms.values()), torch.no_grad():
                x = torch.cat([to_tensor(image, self._normalisation) for image in images])
                logits(self._model, x.to(device))
        finally:
            for hook in hooks:
                hook.remove()
        self.images += len(images)

    def result(
        self, own: NormStatistics, *, blend: float = 1.0, prior_values: int = PRIOR_VALUES
    ) -> NormStatistics:
        """Return the statistics of the condition.

        Args:
            own: The model's own statistics, to blend with.
            blend: Weight of the measured statistics against ``own``, 0 to 1.
            prior_values: A batch norm with n values in a channel weighs them with n / (n + prior_values) of
                ``blend``, since the mean of 16 pooled values is unreliable. 0 weighs them fully.

        Raises:
            ValueError: No image was added, or the blend is outside 0 to 1.
        """
        if not 0.0 <= blend <= 1.0:
            raise ValueError(f"blend is {blend}; it must be from 0 to 1")
        if not self.images:
            raise ValueError("there are no images to estimate statistics from")
        layers = {}
        for name, layer in own.layers.items():
            found = self._moments.get(name)
            # Auxiliary heads do not run in inference, so theirs stay.
            layers[name] = found.blended(layer, blend, prior_values) if found and found.count else layer
        return NormStatistics(layers)


def estimate(
    model: nn.Module,
    images: Iterable[NDArray[np.uint8]],
    normalisation: Normalisation,
    *,
    blend: float = 1.0,
    batch_size: int = 4,
    prior_values: int = PRIOR_VALUES,
) -> NormStatistics:
    """Measure the statistics of a condition on unlabelled images, all at once.

    Args:
        model: Model that no other thread runs meanwhile; its statistics and mode are unchanged afterwards.
        images: Images (h, w, 3) uint8 BGR, at the resolution to infer at.
        normalisation: Normalisation of the model's input.
        blend: Weight of the new statistics against the model's own, 0 to 1; see :func:`trust`.
        batch_size: Images in a forward pass; only neighbours of one size share a batch. Larger batches are
            not better, and take more memory.
        prior_values: See :meth:`Estimator.result`.

    Raises:
        ValueError: There are no images or no batch norm, or the blend is outside 0 to 1.
    """
    if not 0.0 <= blend <= 1.0:
        raise ValueError(f"blend is {blend}; it must be from 0 to 1")
    estimator = Estimator(model, normalisation)
    for batch in _batches(images, batch_size):
        estimator.add(*batch)
    return estimator.result(capture(model), blend=blend, prior_values=prior_values)


def trust(images: int) -> float:
    """Return the blend for statistics of n images: n / (n + 8).

    The model's own statistics count as a prior (Schneider et al., 2020, equation 2).

    Raises:
        ValueError: The number is negative.
    """
    if images < 0:
        raise ValueError(f"images is {images}; give 0 or more")
    return images / (images + PRIOR_IMAGES)


def _parameter(parameters: Mapping[str, Tensor], name: str) -> Tensor:
    found = parameters.get(name)
    if found is None:
        raise StatisticsMismatch(f"this model has no parameter {name!r} that a condition could have learnt")
    return found


def _norms(model: nn.Module) -> dict[str, _BatchNorm]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def _tensors(norm: _BatchNorm, affine: bool) -> tuple[Tensor, ...]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if not affine or norm.weight is None:
        return norm.running_mean, norm.running_var
    return norm.running_mean, norm.running_var, norm.weight, norm.bias


def _batches(images: Iterable[NDArray[np.uint8]], size: int) -> Iterator[Sequence[NDArray[np.uint8]]]:
    for _, group in itertools.groupby(images, key=lambda image: image.shape):
        while batch := list(itertools.islice(group, max(1, size))):
            yield batch


class _Moments:
    """Mean and variance of all inputs of one batch norm, by channel."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sum = torch.zeros(channels, dtype=torch.float64)
        self.squares = torch.zeros(channels, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        n = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x.float(), dim=(0, *range(2, x.dim())), correction=0)
        mean, variance = mean.double().cpu(), variance.double().cpu()
        self.count += n
        self.sum += n * mean
        self.squares += n * (variance + mean.square())

    def blended(self, own: LayerStatistics, blend: float, prior_values: int) -> LayerStatistics:
        weight = blend * self.count / (self.count + prior_values)
        mean = self.sum / self.count
        variance = (self.squares / self.count - mean.square()).clamp_min_(0.0)
        found = (
            torch.lerp(old.double().cpu(), new, weight)
            for old, new in zip(own, (mean, variance), strict=False)
        )
        return (*(new.to(old.device, old.dtype) for old, new in zip(own, found, strict=False)), *own[2:])


def _look(norm: nn.Module, x: Tensor, moments: _Moments) -> None:
    moments.add(x)
    # PyTorch takes no variance of a single value in a channel: the running statistics normalise it.
    norm.training = x.numel() > x.shape[1]


@contextlib.contextmanager
def _normalising_by_batch(model: nn.Module, norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Let batch norms use the batch's statistics without storing them; all other modules are in eval mode."""
    momenta = {norm: norm.momentum for norm in norms}
    counts = {norm: norm.num_batches_tracked for norm in momenta}
    before = capture(model)
    try:
        with evaluating(model):
            for norm in momenta:
                norm.train()
                norm.momentum = 0.0
                norm.num_batches_tracked = None
            yield
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
            norm.num_batches_tracked = counts[norm]
        apply(model, before)
