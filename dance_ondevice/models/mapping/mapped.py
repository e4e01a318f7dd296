"""A network with a class map: its outputs are the site's classes, in training, inference and exports."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dance_ondevice.models.branches import (
    branches_of,
    contexts_of,
    keep_removed,
    removable_branches,
    removed_branches,
)
from dance_ondevice.models.channels import keep_built_widths, widths_built_with
from dance_ondevice.models.forward import coarse, heads_of
from dance_ondevice.models.mapping.class_map import ClassMap

#: Name of the network within the mapped one, which its layers' names begin with.
NETWORK = "network"


class Mapped(nn.Module):
    """Joins a network's classes: the score of a class is the log of the sum over its members' exponentials.

    So the softmax over the joined scores is the sum of the members' probabilities, up to those that stand for
    nothing, and a label of the site trains all members of its class.

    Args:
        network: Network that maps (N, 3, H, W) to logits (N, C, h, w), or to several such.
        members: Outputs of the network that belong to each class.
    """

    def __init__(self, network: nn.Module, members: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.network = network
        self.members = tuple(tuple(outputs) for outputs in members)

    @property
    def training_only(self) -> tuple[str, ...]:
        """Return the names of the modules that inference never runs."""
        return tuple(f"{NETWORK}.{name}" for name in getattr(self.network, "training_only", ()))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Classify every pixel of (N, 3, H, W): logits (N, classes, h, w), or a tuple of such."""
        return self._mapped(self.network(x))

    def coarse_logits(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the same before the network enlarges its logits by itself, if it does."""
        return self._mapped(coarse(self.network)(x))

    def _mapped(self, found: object) -> Tensor | tuple[Tensor, ...]:
        heads = heads_of(found)
        if not heads:
            raise TypeError(
                f"{type(self.network).__name__} returned no logits that classes could be joined in"
            )
        joined = tuple(self._joined(head) for head in heads)
        return joined[0] if isinstance(found, Tensor) else joined

    def _joined(self, scores: Tensor) -> Tensor:
        single = [scores[:, one : one + 1].float() for one in range(scores.shape[1])]
        return torch.cat([_log_sum_exp([single[one] for one in outputs]) for outputs in self.members], dim=1)

    def multi_scale_groups(self) -> Mapping[str, tuple[str, ...]]:
        """Map each of the network's branches to the names of its modules."""
        return {
            branch: tuple(f"{NETWORK}.{name}" for name in names)
            for branch, names in branches_of(self.network).items()
        }

    def branch_contexts(self) -> Mapping[str, float]:
        """Map each of the network's branches to the side of its receptive field."""
        return contexts_of(self.network)

    def removable_branches(self) -> Sequence[str]:
        """List the network's branches that can be removed now."""
        return removable_branches(self.network)

    def remove_branch(self, name: str) -> None:
        """Remove one of these branches; see :func:`dance_ondevice.models.branches.remove_branches`."""
        if name not in self.removable_branches():
            raise KeyError(name)
        self.network.remove_branch(name)  # type: ignore[operator]  # it lists branches


def _log_sum_exp(terms: Sequence[Tensor]) -> Tensor:
    """Log of the sum of exponentials of some tensors of one shape, by operators that every engine has right.

    OpenVINO 2026.4 sums over all axes where a graph of our version of ONNX's operators asks for one.
    """
    if len(terms) == 1:
        return terms[0]
    largest = functools.reduce(torch.maximum, terms).detach()  # it cancels out, so that it needs no gradient
    return largest + functools.reduce(torch.add, [(term - largest).exp() for term in terms]).log()


def mapped(network: nn.Module, class_map: ClassMap, classes: Sequence[str]) -> Mapped:
    """Put a class map on a network; it keeps what is known of its slimming.

    Raises:
        ClassMapError: The map does not fit these classes.
    """
    made = Mapped(network, class_map.indices(classes))
    keep_removed(made, removed_branches(network))
    keep_built_widths(made, {f"{NETWORK}.{n}": c for n, c in widths_built_with(network).items()})
    return made


def unmapped(model: nn.Module) -> nn.Module:
    """Return the network without its class map; a model without one as it is."""
    if not isinstance(model, Mapped):
        return model
    prefix = f"{NETWORK}."
    keep_removed(model.network, removed_branches(model))
    keep_built_widths(model.network, {n.removeprefix(prefix): c for n, c in widths_built_with(model).items()})
    return model.network
