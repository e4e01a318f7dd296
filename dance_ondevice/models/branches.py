"""The multi-scale branches of a model: listing them, and removing some of them whole.

A model lists its branches by its own methods (:class:`MultiScale`), a user's model as well as those of the
registry. A model without these methods has no branches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import nn

from dance_ondevice.models.channels import remember_widths

_REMOVED = "branches_removed"


class BranchError(ValueError):
    """Error: a model has no such branch, or the branch cannot be removed."""


@runtime_checkable
class MultiScale(Protocol):
    """Interface of a model that lists its multi-scale branches."""

    def multi_scale_groups(self) -> Mapping[str, tuple[str, ...]]:
        """Map each branch that was not removed to the names of its modules."""

    def branch_contexts(self) -> Mapping[str, float]:
        """Map each branch to the side of its receptive field, all in the same unit."""

    def removable_branches(self) -> Sequence[str]:
        """List the branches that can be removed now, so that the model still works."""

    def remove_branch(self, name: str) -> None:
        """Remove one of these branches, in place, and the channels that other layers read from it."""


def branches_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Map each branch to the names of its modules; empty for a model that lists no branches."""
    return dict(model.multi_scale_groups()) if isinstance(model, MultiScale) else {}


def contexts_of(model: nn.Module) -> dict[str, float]:
    """Map each branch to the side of its receptive field, in a unit that the model chooses."""
    return dict(model.branch_contexts()) if isinstance(model, MultiScale) else {}


def removable_branches(model: nn.Module) -> tuple[str, ...]:
    """List the branches that can be removed now; once one is removed, others may become removable."""
    return tuple(model.removable_branches()) if isinstance(model, MultiScale) else ()


def removed_branches(model: nn.Module) -> tuple[str, ...]:
    """List the removed branches in the order of their removal, as a model card holds them."""
    found: tuple[str, ...] = getattr(model, _REMOVED, ())
    return found


def keep_removed(model: nn.Module, names: Iterable[str]) -> None:
    """Note on a model which branches were removed from it: it was built around one, or taken out of one."""
    if names := tuple(names):
        setattr(model, _REMOVED, names)


def remove_branches(model: nn.Module, names: Iterable[str], companions: Sequence[nn.Module] = ()) -> None:
    """Remove whole branches from a model, in place, with their weights and their computation.

    The layers that joined them lose the channels that they read from there, and nothing else changes. Make
    the optimiser afterwards, and re-estimate the normalisation statistics
    (:func:`dance_ondevice.training.recalibration.recalibrate`), since they include the mean contribution of
    the branch.

    Args:
        model: Model, slimmed before or not.
        names: Branches to remove; each must be removable once those before it are removed.
        companions: Models of the same layers that lose the same branches; see
            :func:`dance_ondevice.slimming.slim.slim`.

    Raises:
        BranchError: A branch does not exist, or cannot be removed; those named before it are removed.
    """
    remember_widths(model)
    for name in names:
        if name not in removable_branches(model):
            there = ", ".join(removable_branches(model)) or "none"
            raise BranchError(
                f"{type(model).__name__} has no removable branch {name!r}; removable are: {there}"
            )
        for whole in (model, *companions):
            if isinstance(whole, MultiScale):
                whole.remove_branch(name)
                setattr(whole, _REMOVED, (*removed_branches(whole), name))


def branch_of(name: str, branches: Mapping[str, Sequence[str]]) -> str | None:
    """Return the branch that a module belongs to; None outside of all branches."""
    for branch, modules in branches.items():
        if any(name == module or name.startswith(f"{module}.") for module in modules):
            return branch
    return None
