"""What a variant runs with: one set of tensors for each condition, told apart by a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor, nn

__all__ = ["Live", "Weights", "weights_of"]


@dataclass(frozen=True, eq=False)
class Weights:
    """The state dict of a model; never changed in place."""

    tensors: Mapping[str, Tensor]

    @cached_property
    def key(self) -> str:
        """Digest of all tensors: equal weights have equal keys."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()[:20]

    def load_into(self, model: nn.Module) -> None:
        """Make the model compute with these weights."""
        model.load_state_dict(dict(self.tensors))

    def bytes_beside(self, other: Weights) -> int:
        """Bytes of the tensors that differ from another's: what a condition costs to keep."""
        return sum(
            tensor.nbytes
            for name, tensor in self.tensors.items()
            if not torch.equal(tensor, other.tensors[name])
        )


def weights_of(model: nn.Module) -> Weights:
    """A copy of a model's weights."""
    # Contiguous, since training leaves channels last in memory, which safetensors does not write.
    return Weights(
        {
            name: tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, tensor in model.state_dict().items()
        }
    )


@dataclass(frozen=True, eq=False)
class Live:
    """The weights in use, by condition; the first condition is the one that unknown light falls back to."""

    by_condition: Mapping[str, Weights]

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_condition", MappingProxyType(dict(self.by_condition)))

    def weights(self, condition: str) -> Weights:
        """The weights for a condition; those of the first one where it has none of its own yet."""
        found = self.by_condition.get(condition)
        return found if found is not None else next(iter(self.by_condition.values()))

    def with_weights(self, condition: str, weights: Weights) -> Live:
        """The same with other weights for one condition."""
        return Live({**self.by_condition, condition: weights})
