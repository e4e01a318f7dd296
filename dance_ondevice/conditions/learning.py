"""Learning for one condition: late layers and batch norms' affine parameters, with fixed statistics.

The encoder's filters are shared; how their outputs are scaled and shifted, and the layers behind, may differ
by condition. A condition can so learn from labels without changing the masks of any other condition. How far
a candidate goes from the live weights to the trained ones stands here, for rounds of all conditions too.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dance_ondevice.models.layers import batch_norms
from dance_ondevice.models.mapping.mapped import NETWORK

__all__ = [
    "INTERPOLATION",
    "LATE",
    "Additions",
    "interpolated",
    "learning",
    "own_parameters",
    "part_way",
]

#: First parts of the names of the layers behind the encoder, in the architectures of this project; the last
#: three are those of ESPNetv2's published weights.
LATE = ("pyramid", "fusion", "classifier", "head", "bu_dec", "bu_br", "merge_enc_dec")
#: Interpolation of a candidate that learnt from few labels, of one condition or by correction, between the
#: live weights (0) and the trained ones (1): they alone would overwrite too much, see ``interpolated``.
INTERPOLATION = 0.5


def own_parameters(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters that a condition may have for itself, in the model's order.

    These are the layers behind the encoder and the affine parameters of all batch norms, which let the
    encoder follow a light at the price of two numbers for each of its channels. In a user's model, none of
    whose layers has such a name, they are those of the batch norms alone; without any there are none.
    """
    norms = {name for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    return tuple(
        name
        for name, _ in model.named_parameters()
        if name.rpartition(".")[0] in norms or name.removeprefix(f"{NETWORK}.").startswith(LATE)
    )


@contextlib.contextmanager
def learning(model: nn.Module, parameters: Collection[str] | None, *, own_statistics: bool) -> Iterator[None]:
    """Train only some parameters within a context.

    Afterwards the model is in eval mode, and the same parameters are trainable as before.

    Args:
        model: Model to train within the context; make its ``Trainer`` within the context as well.
        parameters: Names of the parameters that learn; None for all.
        own_statistics: True keeps the statistics of batch norms fixed; else they follow the batches.
    """
    norms = batch_norms(model)
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    learn = None if parameters is None else frozenset(parameters)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learn is None or name in learn)
    for norm in norms if own_statistics else ():
        norm.eval()
        # Trainer puts the whole model into training mode before each step.
        setattr(norm, "train", lambda mode=True, norm=norm: norm)  # noqa: B010 - mypy forbids the assignment
    try:
        yield
    finally:
        for norm in norms if own_statistics else ():
            del norm.train
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])
        model.eval()


def interpolated(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Interpolate linearly between the tensors ``start`` (0) and ``end`` (1); integer tensors stay unchanged.

    Averaging a model with its fine-tuned version keeps most of the old and of the new accuracy: Wortsman et
    al., "Robust fine-tuning of zero-shot models", CVPR 2022.

    Args:
        start: Tensors by name.
        end: Tensors with at least the same names, of the same shapes.
        share: Position between the two, 0 to 1.
    """
    if share == 1:
        return {name: end[name] for name in start}
    return {
        name: torch.lerp(tensor, end[name], share) if tensor.is_floating_point() else tensor
        for name, tensor in start.items()
    }


def part_way(model: nn.Module, start: Mapping[str, Tensor], share: float) -> nn.Module:
    """Return a copy of a model that lies between what it was and what it has become.

    Args:
        model: The trained model.
        start: Its state dict before the training.
        share: Position between the two, 0 to 1.
    """
    found = copy.deepcopy(model)
    found.load_state_dict(interpolated(start, model.state_dict(), share))
    return found


class Additions:
    """Differences that conditions have learnt on top of a model, kept while it trains on and loses channels.

    The difference of a condition is added to the parameter's new value: Ilharco et al., "Editing models with
    task arithmetic", ICLR 2023.
    """

    def __init__(self, model: nn.Module, learnt: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy the model once, and once more for each condition that has learnt parameters.

        Args:
            model: Model before it changes.
            learnt: Tensors that each condition has learnt, by condition and parameter name.
        """
        self._names = {name: tuple(tensors) for name, tensors in learnt.items() if tensors}
        self._before = copy.deepcopy(model) if self._names else None
        self._copies: dict[str, nn.Module] = {}
        for name in self._names:
            self._copies[name] = copy.deepcopy(model)
            parameters = dict(self._copies[name].named_parameters())
            with torch.no_grad():
                for parameter, tensor in learnt[name].items():
                    parameters[parameter].copy_(tensor)

    @property
    def companions(self) -> Sequence[nn.Module]:
        """Return the copies, which must lose the same channels as the model: see ``slimming.slim``."""
        return (self._before, *self._copies.values()) if self._before is not None else ()

    def on(self, model: nn.Module) -> dict[str, dict[str, Tensor]]:
        """Return the parameters of each condition on top of the model's present weights.

        Args:
            model: Model with the same layers and widths as the companions.

        Returns:
            Tensors by condition and parameter name.
        """
        if self._before is None:
            return {}
        now, before = dict(model.named_parameters()), dict(self._before.named_parameters())
        found = {}
        with torch.no_grad():
            for condition, names in self._names.items():
                own = dict(self._copies[condition].named_parameters())
                found[condition] = {name: (now[name] + own[name] - before[name]).detach() for name in names}
        return found
