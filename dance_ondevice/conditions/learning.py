"""What a condition learns of its own: the layers behind the encoder, over statistics that stay as they are.

What the encoder sees is shared; what is made of it may differ by condition, and a condition that keeps late
layers of its own can learn from labels without any other frame being segmented differently.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["INTERPOLATION", "LATE", "Additions", "interpolated", "learning", "own_parameters"]

#: How the names of the layers behind the encoder begin, in the architectures that this project has.
LATE = ("pyramid", "fusion", "classifier", "head")
#: Share of the way from the live weights to the trained ones that a condition's candidate goes: the other
#: half keeps what a handful of labels would overwrite, see ``interpolated``.
INTERPOLATION = 0.5


def own_parameters(model: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that a condition may have of its own.

    The layers behind the encoder; where none is named like one, as in a brought model, the affine parameters
    of its batch norms; nothing where there are none of those either.
    """
    late = tuple(name for name, _ in model.named_parameters() if name.startswith(LATE))
    if late:
        return late
    norms = {name for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    return tuple(name for name, _ in model.named_parameters() if name.rpartition(".")[0] in norms)


@contextlib.contextmanager
def learning(model: nn.Module, parameters: Collection[str] | None, *, own_statistics: bool) -> Iterator[None]:
    """Only some of the model learns; afterwards it is in eval mode, and all learn that did before.

    Args:
        model: trained within; a ``Trainer`` must be made within as well.
        parameters: names of those that learn; None for all.
        own_statistics: batch norm's statistics stay as they are; else they follow the batches.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
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
    """Tensors on the straight line from ``start`` (0) to ``end`` (1), by name; whole numbers stay.

    Averaging a model with its fine-tuned self keeps what it knew and most of what it learnt: Wortsman et al.,
    "Robust fine-tuning of zero-shot models", CVPR 2022.

    Args:
        start: by name.
        end: at least the same names, of the same shapes.
        share: of the way, 0 to 1.
    """
    if share == 1:
        return {name: end[name] for name in start}
    return {
        name: torch.lerp(tensor, end[name], share) if tensor.is_floating_point() else tensor
        for name, tensor in start.items()
    }


class Additions:
    """What conditions have learnt on top of a model, kept while that model trains on and loses channels.

    What a condition adds to a parameter is added to whatever the parameter has become: Ilharco et al.,
    "Editing models with task arithmetic", ICLR 2023.
    """

    def __init__(self, model: nn.Module, learnt: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy the model once, and once more for each condition that has learnt anything.

        Args:
            model: as it is before it changes.
            learnt: condition -> parameter name -> tensor.
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
        """The copies, which must lose the channels that the model loses: see ``slimming.slim``."""
        return (self._before, *self._copies.values()) if self._before is not None else ()

    def on(self, model: nn.Module) -> dict[str, dict[str, Tensor]]:
        """What each condition has of its own on top of the model as it is now.

        Args:
            model: of the layers and widths that the companions have by now.

        Returns:
            Condition -> parameter name -> tensor.
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
