"""The multi-scale branches of a model: which there are, and taking some out whole.

A model names its branches by methods of its own (:class:`MultiScale`), a brought one as well as those of the
registry. One that names none has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import nn

from dance_ondevice.models.channels import remember_widths

_REMOVED = "branches_removed"


class BranchError(ValueError):
    """A model has no such branch, or none that could be taken out."""


@runtime_checkable
class MultiScale(Protocol):
    """A model that names its multi-scale branches."""

    def multi_scale_groups(self) -> Mapping[str, tuple[str, ...]]:
        """Branch -> names of the modules that make it up, of those that are there."""

    def branch_contexts(self) -> Mapping[str, float]:
        """Branch -> side of what one of its values sees, in any one unit."""

    def removable_branches(self) -> Sequence[str]:
        """Branches without which the model still works as it is now."""

    def remove_branch(self, name: str) -> None:
        """Take one of those out, in place, and the channels that others read from it."""


def branches_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Branch -> names of the modules that make it up; empty for a model that names none."""
    return dict(model.multi_scale_groups()) if isinstance(model, MultiScale) else {}


def contexts_of(model: nn.Module) -> dict[str, float]:
    """Branch -> side of what one of its values sees, in a unit of the model's own."""
    return dict(model.branch_contexts()) if isinstance(model, MultiScale) else {}


def removable_branches(model: nn.Module) -> tuple[str, ...]:
    """Branches that could be taken out now; when one is gone, others may become so."""
    return tuple(model.removable_branches()) if isinstance(model, MultiScale) else ()


def removed_branches(model: nn.Module) -> tuple[str, ...]:
    """Branches that were taken out, in that order; what a model card holds."""
    found: tuple[str, ...] = getattr(model, _REMOVED, ())
    return found


def remove_branches(model: nn.Module, names: Iterable[str], companions: Sequence[nn.Module] = ()) -> None:
    """Take whole branches out of a model, in place: neither weights nor work of them are left.

    What joined them loses the channels that it read from there, and nothing else changes. Make the optimiser
    afterwards, and re-estimate the normalisation statistics
    (:func:`dance_ondevice.training.recalibration.recalibrate`): what was a mean contribution of the branch
    is missing from them.

    Args:
        model: slimmed before or not.
        names: each of which must be removable once those before it are gone.
        companions: models of the same layers that lose the same; see
            :func:`dance_ondevice.slimming.slim.slim`.

    Raises:
        BranchError: a branch that is not there, or cannot be left out; those named before it are gone.
    """
    remember_widths(model)
    for name in names:
        if name not in removable_branches(model):
            there = ", ".join(removable_branches(model)) or "none"
            raise BranchError(
                f"{type(model).__name__} has no branch {name!r} that could be removed; there are: {there}"
            )
        for whole in (model, *companions):
            if isinstance(whole, MultiScale):
                whole.remove_branch(name)
                setattr(whole, _REMOVED, (*removed_branches(whole), name))


def branch_of(name: str, branches: Mapping[str, Sequence[str]]) -> str | None:
    """The branch that a module belongs to; None outside all of them."""
    for branch, modules in branches.items():
        if any(name == module or name.startswith(f"{module}.") for module in modules):
            return branch
    return None
