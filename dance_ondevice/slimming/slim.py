"""Network slimming: removing channels from a model until one inference costs the target MACs.

:mod:`dance_ondevice.slimming.groups` finds which channels belong together and which matter least; this module
decides how many are removed. Each group loses the same share of its original channels, so that many small
steps slim a model as evenly as one large step does; multi-scale branches may lose a larger or a smaller
share.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import nn

from dance_ondevice.models.branches import branch_of, branches_of
from dance_ondevice.models.channels import (
    LayerChannels,
    channels_of,
    keep_channels,
    layer_channels,
    remember_widths,
    silence_inputs,
)
from dance_ondevice.models.cost import count_macs, count_parameters, evaluating, layer_macs
from dance_ondevice.models.forward import as_parameters, logits
from dance_ondevice.slimming.groups import Group, NotPrunable, copy_of, find_groups
from dance_ondevice.slimming.importance import Scores
from dance_ondevice.slimming.tracing import TRACE_SIDE, forward_with_auxiliary

__all__ = ["SlimReport", "slim"]

log = logging.getLogger(__name__)

#: Largest relative distance of the MACs from the target.
_TOLERANCE = 0.03
#: Outputs that differ by no more of their size (or of 1) are the same but for rounding.
_SAME = 1e-3

#: Channels to remove, by layer and side ("in" or "out").
_Removed: TypeAlias = dict[str, dict[str, set[int]]]


@dataclass(frozen=True, kw_only=True)
class SlimReport:
    """Result of slimming.

    Attributes:
        target_macs: Target MACs.
        macs_before: MACs of one inference at the given size before slimming.
        macs_after: MACs of one inference at the given size after slimming.
        parameters_before: Number of trainable values that inference uses before slimming.
        parameters_after: Number of trainable values that inference uses after slimming.
        channels: Channels (in, out, groups) of every layer after slimming, by module name, for a model card.
    """

    target_macs: int
    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int
    channels: dict[str, LayerChannels]

    @property
    def reached(self) -> bool:
        """Return whether the MACs are within 3 % of the target, or were below it from the start."""
        return self.macs_after <= (1 + _TOLERANCE) * self.target_macs


@dataclass(frozen=True, kw_only=True)
class _Task:
    """Input of the choice of widths: groups with their rates, channels and MACs by layer, and the target."""

    groups: tuple[Group, ...]
    rates: tuple[float, ...]
    channels: Mapping[str, LayerChannels]
    costs: Mapping[str, int]
    target: int
    min_channels: int

    def miss(self, widths: Sequence[int]) -> int:
        """Return the absolute distance from the target of the MACs with these widths."""
        return abs(self.macs(widths) - self.target)

    def macs(self, widths: Sequence[int]) -> int:
        """Return the MACs with these widths; those of a layer are proportional to in * out / groups."""
        lost: dict[tuple[str, str], int] = {}
        for group, width in zip(self.groups, widths, strict=True):
            gone = len(group.order) - width
            for member in group.members:
                key = (member.layer, member.side)
                lost[key] = lost.get(key, 0) + member.lost[gone]
        blocks = frozenset().union(*(group.blocks for group in self.groups))
        total = 0
        for name, macs in self.costs.items():
            if name not in self.channels:  # its weight is computed anew at each pass: it loses none
                total += macs
                continue
            inputs, outputs, groups = self.channels[name]
            lost_in, lost_out = lost.get((name, "in"), 0), lost.get((name, "out"), 0)
            if name in blocks or 1 < groups == inputs == outputs:
                total += macs * (outputs - lost_out) // outputs
            else:
                total += macs * (inputs - lost_in) * (outputs - lost_out) // (inputs * outputs)
        return total


def slim(
    model: nn.Module,
    *,
    target_macs: int,
    size: tuple[int, int],
    round_to: int = 16,
    min_channels: int = 4,
    importance: Scores | None = None,
    shares: Mapping[str, float] | None = None,
    companions: Sequence[nn.Module] = (),
) -> SlimReport:
    """Remove channels from a model, in place, until one inference costs ``target_macs``.

    The MACs end within 3 % of the target unless ``min_channels`` prevents it; then the model is as small as
    possible and the report says how small. The outputs keep all their classes. A model that was slimmed
    before, or loaded from a slimmed checkpoint, is slimmed further. Grouped convolutions lose as much from
    each block, or whole blocks; a channel shuffle that is a ``torch.nn.ChannelShuffle`` loses the same places
    of each of its groups. Groups with a layer that has no rule (group and layer normalisation, attention,
    bare parameters) stay unchanged, and so do those around which the model splits or mixes channels in a way
    that is not understood.

    Parameters that lose channels are replaced by new ones: make the optimiser afterwards.

    Args:
        model: Model that maps (N, 3, H, W) to logits, or to a tuple of logits with auxiliary outputs in
            training mode.
        target_macs: Target for one image, as :func:`dance_ondevice.models.cost.count_macs` counts.
        size: Size (height, width) that the MACs are counted at.
        round_to: Number of which changed widths become multiples, since kernels run them faster; half of it,
            a quarter and so on if the target cannot be met otherwise.
        min_channels: Least channels of a group; a group with fewer stays unchanged.
        importance: Scores (output channels,) by module name; the channels with the smallest are removed
            first. None takes those of :func:`dance_ondevice.slimming.importance.scale_scores`; see there for
            others.
        shares: Share of the channels that each multi-scale branch loses, relative to the rest of the model: 1
            as much, 2 twice as much, 0 none. Branches that are missing have 1.
        companions: Models of the same layers, which lose exactly the same channels, whatever their values
            are: for example an optimiser's moments, held as the parameters of a copy.

    Raises:
        NotPrunable: the model cannot be traced, or has nothing that could be removed without a change of what
            the rest computes; nothing was cut.
        ValueError: an argument out of range, a branch that the model does not have, or a companion with
            other layers than the model.
    """
    if target_macs < 1 or round_to < 1 or min_channels < 1:
        raise ValueError(
            "target_macs, round_to and min_channels must be at least 1, "
            f"found {target_macs}, {round_to} and {min_channels}"
        )
    branches = _checked_branches(model, shares or {})
    for companion in companions:
        if channels_of(companion) != channels_of(model):
            raise ValueError(
                f"a companion ({type(companion).__name__}) must have the layers and channels of the model"
            )
    costs = layer_macs(model, *size)
    before, parameters_before = sum(costs.values()), count_parameters(model)
    if target_macs < before:
        with torch.inference_mode(False):  # the caller's would make parameters that cannot be trained
            task = _Task(
                groups=(),
                rates=(),
                channels=channels_of(model),
                costs=costs,
                target=target_macs,
                min_channels=min_channels,
            )

            def choose(groups: Sequence[Group]) -> tuple[int, ...]:
                rates = tuple(_rate(group, branches, shares or {}) for group in groups)
                return _choose_widths(replace(task, groups=tuple(groups), rates=rates), round_to)

            removed = _sound(model, find_groups(model, importance), choose)
            remember_widths(model)
            for whole in (model, *companions):
                _cut(whole, removed)
    report = SlimReport(
        target_macs=target_macs,
        macs_before=before,
        macs_after=count_macs(model, *size),
        parameters_before=parameters_before,
        parameters_after=count_parameters(model),
        channels=channels_of(model),
    )
    log.info(
        "slimmed target_macs=%d macs_before=%d macs_after=%d parameters_before=%d parameters_after=%d",
        target_macs,
        before,
        report.macs_after,
        parameters_before,
        report.parameters_after,
    )
    return report


def _checked_branches(model: nn.Module, shares: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    branches = branches_of(model)
    for name, share in shares.items():
        if name not in branches:
            there = ", ".join(branches) or "none"
            raise ValueError(f"{type(model).__name__} has no branch {name!r}; there are: {there}")
        if not (math.isfinite(share) and share >= 0):
            raise ValueError(f"the share of {name} is {share}; it must be 0 or more")
    return branches


def _rate(group: Group, branches: Mapping[str, Sequence[str]], shares: Mapping[str, float]) -> float:
    """Return the share of the branch that most of the group's writers are in."""
    votes = Counter(branch_of(writer, branches) for writer in group.writers)
    most = votes.most_common(1)
    return shares.get(most[0][0] or "", 1.0) if most else 1.0


def _choose_widths(task: _Task, round_to: int) -> tuple[int, ...]:
    """Return the units that each group keeps: rounded as coarsely as the target allows."""
    tried = []
    while True:
        tried.append(min(_settings_around(task, round_to), key=task.miss))
        if task.miss(tried[-1]) <= _TOLERANCE * task.target:
            return min(tried, key=task.miss)
        if round_to == 1:
            return _nudged(task, min(tried, key=task.miss))
        round_to //= 2


def _nudged(task: _Task, widths: tuple[int, ...]) -> tuple[int, ...]:
    """Adjust widths by single channels, in whichever group comes nearest to the target.

    Groups that share layers cost less than the sum of their single costs, so that on a small model even
    shares can miss the target.
    """
    while task.miss(widths) > _TOLERANCE * task.target:
        step = -1 if task.macs(widths) > task.target else 1
        moved = [
            (*widths[:index], width + step, *widths[index + 1 :])
            for index, (group, rate, width) in enumerate(zip(task.groups, task.rates, widths, strict=True))
            if rate > 0 and _least(group, task.min_channels) <= width + step <= len(group.order)
        ]
        nearest = min(moved, key=task.miss, default=widths)
        if task.miss(nearest) >= task.miss(widths):
            break
        widths = nearest
    return widths


def _settings_around(task: _Task, round_to: int) -> list[tuple[int, ...]]:
    """Return the widths just above the target, those just below, and those between, one group at a time."""

    def widths_at(share: float) -> tuple[int, ...]:
        if share == 0.0:
            return tuple(len(g.order) for g in task.groups)
        return tuple(
            _width_after(g, min(1.0, rate * share), round_to, task.min_channels) if rate else len(g.order)
            for g, rate in zip(task.groups, task.rates, strict=True)
        )

    # The upper end is where the slowest group has lost as much as the others.
    low, high = 0.0, 1.0 / min((rate for rate in task.rates if rate), default=1.0)
    for _ in range(30):
        middle = (low + high) / 2
        if task.macs(widths_at(middle)) > task.target:
            low = middle
        else:
            high = middle
    wide, narrow = widths_at(low), widths_at(high)
    return [narrow[:stepped] + wide[stepped:] for stepped in range(len(task.groups) + 1)]


def _width_after(group: Group, share: float, round_to: int, min_channels: int) -> int:
    """Return the units of a group without about ``share`` of its original channels, never a larger one."""
    step = max(1, round_to // group.unit)
    least = -(-_least(group, min_channels) // step) * step
    kept = round(group.built_with * (1.0 - share) / step) * step
    return min(len(group.order), max(kept, least))


def _least(group: Group, min_channels: int) -> int:
    """Return the number of units that a group keeps at least."""
    return max(-(-min_channels // group.unit), group.least)


def _removed(groups: Sequence[Group], widths: Sequence[int]) -> _Removed:
    """Return the channels that go with the least important units of groups."""
    removed: _Removed = {}
    for group, width in zip(groups, widths, strict=True):
        gone = group.order[: len(group.order) - width]
        for member in group.members if gone else ():
            channels = itertools.chain.from_iterable(member.channels.get(root, ()) for root in gone)
            removed.setdefault(member.layer, {"in": set(), "out": set()})[member.side].update(channels)
    return removed


def _sound(
    model: nn.Module, groups: Sequence[Group], choose: Callable[[Sequence[Group]], Sequence[int]]
) -> _Removed:
    """Choose channels of groups without which the model computes what it should.

    Where a model splits or mixes channels in its own way, only the groups that this touches are traced to the
    wrong places. Each group is then tried by itself, and those that fail stay.

    Args:
        model: Model, which stays unchanged.
        groups: What may lose channels.
        choose: Returns the units that each of some groups keeps.

    Raises:
        NotPrunable: No group can lose channels, or all can by themselves and not together.
    """
    while True:
        widths = choose(groups)
        removed = _removed(groups, widths)
        try:
            _check(model, removed)
        except NotPrunable:
            rest = [g for g, width in zip(groups, widths, strict=True) if _is_sound(model, g, width)]
            if len(rest) == len(groups) or not _removed(rest, [group.least for group in rest]):
                raise
            log.info("groups of channels stay, not understood count=%d", len(groups) - len(rest))
            groups = rest
        else:
            return removed


def _is_sound(model: nn.Module, group: Group, width: int) -> bool:
    """Return whether a model in which one group is cut to a width computes what it should."""
    removed = _removed([group], [width])
    try:
        _check(model, removed)
    except NotPrunable:
        return False
    return True


def _check(model: nn.Module, removed: _Removed) -> None:
    """Cut channels out of a copy, which must still compute what the model does without them.

    Raises:
        NotPrunable: It does not.
    """
    probe = copy_of(model)
    try:
        _silence(probe, removed)
        expected = _output(probe)
        _cut(probe, removed)
        found = _output(probe)
        with torch.no_grad():  # auxiliary heads may join channels in their own way
            forward_with_auxiliary(probe, as_parameters(probe, torch.rand(1, 3, TRACE_SIDE, TRACE_SIDE)))
    except Exception as error:  # whatever wrongly traced channels, or a forward with them, may raise
        raise NotPrunable(
            f"{type(model).__name__} no longer runs after channels were removed; its operations on channels "
            f"were not understood: {type(error).__name__}: {error}"
        ) from error
    if found.shape != expected.shape:
        raise NotPrunable(
            f"removing channels changed the output of {type(model).__name__}: {tuple(expected.shape)} to "
            f"{tuple(found.shape)}"
        )
    # Written so that a difference that is not a number is one.
    if not float((found - expected).abs().max()) <= _SAME * max(1.0, float(expected.abs().max())):
        raise NotPrunable(
            f"removing channels of {type(model).__name__} that nothing reads changes what it computes; it "
            "mixes channels in a way that was not understood, such as a channel shuffle, a mean over them or "
            "standardised weights"
        )


def _silence(model: nn.Module, removed: _Removed) -> None:
    """Set the weights that read the channels to be removed to zero."""
    modules = dict(model.named_modules())
    for name, sides in removed.items():
        if sides["in"]:
            silence_inputs(modules[name], sorted(sides["in"]))


def _cut(model: nn.Module, removed: _Removed) -> None:
    modules = dict(model.named_modules())
    for name, sides in removed.items():
        inputs, outputs, _ = layer_channels(modules[name])
        keep_channels(modules[name], _rest(inputs, sides["in"]), _rest(outputs, sides["out"]))


def _rest(width: int, gone: Iterable[int]) -> list[int] | None:
    out = set(gone)
    return [channel for channel in range(width) if channel not in out] if out else None


def _output(model: nn.Module) -> torch.Tensor:
    """Return the model's output for an image of noise, which activates every channel."""
    with evaluating(model), torch.inference_mode():
        image = torch.rand((1, 3, TRACE_SIDE, TRACE_SIDE), generator=torch.Generator().manual_seed(0))
        return logits(model, as_parameters(model, image)).float()
