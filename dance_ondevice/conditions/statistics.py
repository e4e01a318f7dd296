"""Normalisation statistics by condition: what day, dusk and rain keep apart while they share every weight.

A batch norm holds the mean and variance of its inputs. Those are what a change of light moves first, and they
can be measured again on images that nobody labelled (Schneider et al., "Improving robustness against common
corruptions by covariate shift adaptation", NeurIPS 2020; Nado et al., arXiv 2006.10963).
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

from dance_ondevice.models.card import Normalisation
from dance_ondevice.models.cost import evaluating
from dance_ondevice.models.forward import logits, to_tensor

__all__ = [
    "FIELDS",
    "PRIOR_VALUES",
    "Estimator",
    "NormStatistics",
    "StatisticsMismatch",
    "apply",
    "capture",
    "estimate",
    "tensors_of_norms",
    "trust",
]

#: What a batch norm keeps, in the order of :data:`LayerStatistics`.
FIELDS = ("running_mean", "running_var", "weight", "bias")
#: Values of a channel that the model's own statistics are worth.
PRIOR_VALUES = 512
#: Images that the model's own statistics are worth.
PRIOR_IMAGES = 8

#: (running_mean, running_var), or those and (weight, bias).
LayerStatistics = tuple[Tensor, ...]


class StatisticsMismatch(ValueError):  # noqa: N818 - the name says what is wrong
    """Statistics that were taken from a model of other layers or widths."""


@dataclass(frozen=True, eq=False)
class NormStatistics:
    """The normalisation of one condition.

    Attributes:
        layers: batch norm's module name -> (running_mean, running_var), each (C,); where the condition has
            its own affine parameters too, (running_mean, running_var, weight, bias). Never changed in place.
        learnt: parameter name -> tensor, of what the condition has learnt for itself (see
            ``condition_learning``). Never changed in place.
    """

    layers: Mapping[str, LayerStatistics]
    learnt: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))
        object.__setattr__(self, "learnt", MappingProxyType(dict(self.learnt)))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        statistics = sum(tensor.nbytes for layer in self.layers.values() for tensor in layer)
        return statistics + sum(tensor.nbytes for tensor in self.learnt.values())

    def over(self, base: NormStatistics) -> NormStatistics:
        """The same, with ``base``'s tensors for what it has not learnt.

        ``apply`` leaves alone what a condition does not name, so that what another one had learnt would stay:
        conditions that take turns in one model must all name what any of them has learnt.
        """
        if base.learnt.keys() <= self.learnt.keys():
            return self
        return NormStatistics(self.layers, {**base.learnt, **self.learnt})


def capture(model: nn.Module, *, affine: bool = False, learnt: Iterable[str] = ()) -> NormStatistics:
    """Copy the statistics that the model uses now.

    Args:
        model: not running in another thread.
        affine: copy the weights and biases of its batch norms as well.
        learnt: names of parameters to copy, too.

    Raises:
        StatisticsMismatch: the model has no parameter of such a name.
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
    """What :func:`capture` copies, affine parameters included: the model's own tensors, not copies."""
    return [_tensors(norm, True) for norm in _norms(model).values()]


def apply(model: nn.Module, statistics: NormStatistics) -> None:
    """Make the model use these statistics, by copying them into its buffers: nothing is allocated.

    Affine parameters, and what a condition has learnt, are set where the statistics hold any and are else
    left as they are: see :meth:`NormStatistics.over`.

    Raises:
        StatisticsMismatch: they are of another model; it is left as it was.
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
    """Gathers the statistics of one condition image by image, so that a caller may do other things between.

    A batch norm is fed with what the layers below make of some images when each of them normalises by those
    images' own statistics, as in training. What is gathered is over all images.
    """

    def __init__(self, model: nn.Module, normalisation: Normalisation) -> None:
        """Begin with nothing gathered.

        Args:
            model: not running in another thread while images are added; between them it may do anything.
            normalisation: of the model's input.

        Raises:
            ValueError: the model has no batch norm.
        """
        self._model = model
        self._normalisation = normalisation
        self._moments = {name: _Moments(norm.num_features) for name, norm in _norms(model).items()}
        if not self._moments:
            raise ValueError(f"{type(model).__name__} has no batch norm to estimate statistics for")
        self.images = 0

    def add(self, *images: NDArray[np.uint8]) -> None:
        """Run the model on some images of one size; it is left as it was, statistics and mode included.

        Args:
            images: (h, w, 3) uint8 BGR each, at the resolution to infer at.
        """
        norms = _norms(self._model)
        hooks = [
            norms[name].register_forward_pre_hook(lambda norm, inputs, m=moments: _look(norm, inputs[0], m))
            for name, moments in self._moments.items()
        ]
        device = next(self._model.parameters()).device
        try:
            with _normalising_by_batch(self._model, norms.values()), torch.inference_mode():
                x = torch.cat([to_tensor(image, self._normalisation) for image in images])
                logits(self._model, x.to(device))
        finally:
            for hook in hooks:
                hook.remove()
        self.images += len(images)

    def result(
        self, own: NormStatistics, *, blend: float = 1.0, prior_values: int = PRIOR_VALUES
    ) -> NormStatistics:
        """The statistics of the condition.

        Args:
            own: what to blend with: the model's own statistics.
            blend: weight of what was gathered against ``own``, 0 to 1.
            prior_values: a batch norm that saw n values a channel weighs them with n / (n + prior_values) of
                ``blend``: the mean of 16 pooled values says little. 0 trusts any number.

        Raises:
            ValueError: nothing was added, or a blend outside 0 to 1.
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
        model: left as it was, statistics and mode included. Not running in another thread meanwhile.
        images: (h, w, 3) uint8 BGR each, at the resolution to infer at.
        normalisation: of the model's input.
        blend: weight of the new statistics against the model's own, 0 to 1; see :func:`trust`.
        batch_size: images a forward pass; only neighbours of one size share a batch. Larger ones are no
            better, and take more memory.
        prior_values: see :meth:`Estimator.result`.

    Raises:
        ValueError: no images, no batch norm, or a blend outside 0 to 1.
    """
    if not 0.0 <= blend <= 1.0:
        raise ValueError(f"blend is {blend}; it must be from 0 to 1")
    estimator = Estimator(model, normalisation)
    for batch in _batches(images, batch_size):
        estimator.add(*batch)
    return estimator.result(capture(model), blend=blend, prior_values=prior_values)


def trust(images: int) -> float:
    """The blend for statistics of so many images: n / (n + 8).

    The model's own statistics count as a prior (Schneider et al., 2020, equation 2).

    Raises:
        ValueError: a negative number.
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
    """Mean and variance of all values that passed through one batch norm, by channel."""

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
    # Of a single value a channel PyTorch takes no variance: there the running statistics normalise.
    norm.training = x.numel() > x.shape[1]


@contextlib.contextmanager
def _normalising_by_batch(model: nn.Module, norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Batch norms use the batch's own statistics and change nothing; all else is in eval mode: no dropout."""
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
