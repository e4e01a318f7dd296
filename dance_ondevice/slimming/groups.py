"""Groups of channels that can only be removed together, and the importance of each channel.

Removing a channel from one layer removes it from others: from those that read it, from those that are added
to it, and from the normalisation between. :mod:`dance_ondevice.slimming.tracing` finds what belongs together,
:mod:`dance_ondevice.slimming.joining` the units that can be removed: one channel, or several where grouped
convolutions or a channel shuffle hold them together.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from dance_ondevice.models.channels import (
    LayerChannels,
    channels_of,
    has_channels,
    is_channelwise,
    widths_built_with,
)
from dance_ondevice.slimming.importance import Scores, scale_scores
from dance_ondevice.slimming.joining import Joined, join
from dance_ondevice.slimming.tracing import Side, Sides, Traced, trace


class NotPrunable(ValueError):  # noqa: N818 - the name says what is wrong
    """Error: channels cannot be removed from this model; it is unchanged."""


@dataclass(frozen=True)
class Member:
    """One side of one layer in a group; for a channelwise layer its "out" side represents both.

    Attributes:
        layer: Name of the module.
        side: Side of the layer, "in" or "out", whose channels belong to the group.
        channels: Channels of the layer that are removed with each unit of the group.
        lost: ``lost[k]`` is the number of the layer's channels that are removed with the k least important
            units of the group.
    """

    layer: str
    side: Side
    channels: Mapping[int, tuple[int, ...]]
    lost: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Channels of several layers that can only be removed together, unit by unit.

    Attributes:
        order: Units, least important first.
        least: Number of units that must stay, so that every layer of the group keeps some.
        built_with: Number of units before any slimming.
        members: Layers that lose channels with the group.
        writers: Names of the layers that compute these channels from others.
        unit: Channels that the group's first layer loses with a unit: 1, or more where blocks of grouped
            convolutions must lose equally.
        blocks: Grouped convolutions of which a unit takes whole blocks.
    """

    order: tuple[int, ...]
    least: int
    built_with: int
    members: tuple[Member, ...]
    writers: tuple[str, ...]
    unit: int = 1
    blocks: frozenset[str] = frozenset()


def find_groups(model: nn.Module, scores: Scores | None = None) -> tuple[Group, ...]:
    """Trace a copy of the model and collect the groups that may lose channels.

    Left out are groups that reach the model's output, those with a layer that has no rule (group and layer
    normalisation, attention, bare parameters), and those of grouped convolutions that could only be cut by
    thirds or more.

    Args:
        model: Model, which stays unchanged.
        scores: Scores that the channels of a group are ordered by; None takes those of
            :func:`dance_ondevice.slimming.importance.scale_scores`.

    Raises:
        NotPrunable: The model cannot be traced, or every group was left out.
        ValueError: The number of scores differs from a layer's number of channels.
    """
    scores = scale_scores(model) if scores is None else _checked(scores, model)
    probe = copy_of(model).requires_grad_(True)  # a frozen layer would be missing from the trace
    try:
        traced = trace(probe)
    except Exception as error:  # the user's forward and torch-pruning's tracing of it may raise anything
        raise NotPrunable(
            f"cannot trace {type(model).__name__} to find which channels belong together: "
            f"{type(error).__name__}: {error}"
        ) from error
    modules = dict(model.named_modules())  # get_submodule takes a layer named like a method for that method
    grouped = {
        name: channels
        for name, channels in channels_of(model).items()
        if channels[2] > 1 and not is_channelwise(modules[name])
    }
    importance = [_importance(group, scores).tolist() for group in traced]
    built_with = widths_built_with(model)
    groups = tuple(_group(joined, built_with) for joined in join(traced, importance, grouped))
    if not groups:
        raise NotPrunable(
            f"{type(model).__name__} has no group of channels that could be removed{_hint(modules.values())}"
        )
    return groups


def _hint(modules: Iterable[nn.Module]) -> str:
    """Name the layers that keep their channels, and so those of their neighbours."""
    kept = Counter(filter(None, map(_without_rule, modules)))
    found = ", ".join(f"{count} {kind}" for kind, count in kept.most_common(3))
    return f"; there is no rule for its {found}" if found else ""


def _without_rule(module: nn.Module) -> str:
    if isinstance(module, (nn.GroupNorm, nn.LayerNorm, nn.MultiheadAttention)):
        return type(module).__name__
    if isinstance(module, (_ConvNd, nn.Linear)) and not has_channels(module):
        return "layers whose weight is computed in each pass, as by weight_norm and spectral_norm"
    return ""


def copy_of(model: nn.Module) -> nn.Module:
    """Copy a model, to try changes on the copy.

    Raises:
        NotPrunable: The model cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise NotPrunable(
            f"{type(model).__name__} cannot be copied, which is needed to try the removal: {error}"
        ) from error


def _group(joined: Joined, built_with: Mapping[str, LayerChannels]) -> Group:
    """Order the units, those last that must stay."""
    order = [int(i) for i in torch.argsort(torch.tensor(joined.scores), stable=True)]
    last_ones = _best_of_each(order, joined.sides)
    order = [i for i in order if i not in last_ones] + [i for i in order if i in last_ones]
    members = []
    for (name, side), channels in joined.sides.items():
        lost = itertools.accumulate((len(channels.get(i, ())) for i in order), initial=0)
        members.append(Member(name, side, {i: tuple(sorted(c)) for i, c in channels.items()}, tuple(lost)))
    layers = {name: layer for part in joined.parts for name, layer in part.layers.items()}
    writers = tuple(name for name, side in joined.sides if side == "out" and not is_channelwise(layers[name]))
    unit = max(1, len(joined.sides.get((joined.root, "out"), {}).get(order[0], ())))
    return Group(
        order=tuple(order),
        least=len(last_ones),
        built_with=built_with[joined.root][1] // unit,
        members=tuple(members),
        writers=writers,
        unit=unit,
        blocks=joined.blocks & layers.keys(),
    )


def _best_of_each(order: Sequence[int], sides: Sides) -> set[int]:
    """Return the channels of the group that must stay: the most important ones, so that no layer is empty.

    Usually this is one channel. Where concatenated features are normalised or filtered channel by channel,
    several layers write different channels, and each keeps its best.
    """
    best: set[int] = set()
    for channels in sorted((set(c) for c in sides.values()), key=len):
        if not channels & best:
            best.add(next(i for i in reversed(order) if i in channels))
    return best


def _importance(group: Traced, scores: Scores) -> Tensor:
    """One score a channel: the mean of those that the group's normalisations give it.

    Without such the mean of those of the layers that write it.
    """
    layers = group.layers
    known = {key for key in group.sides if key[0] in scores}
    norms = {key for key in known if isinstance(layers[key[0]], _NormBase)}
    writers = {key for key in known if key[1] == "out" and isinstance(layers[key[0]], (_ConvNd, nn.Linear))}
    total = torch.zeros(group.width, dtype=torch.float64)
    count = torch.zeros(group.width, dtype=torch.float64)
    for key in sorted(norms or writers):
        of_layer = scores[key[0]].double().cpu()
        for origin, channels in group.sides[key].items():
            total[origin] += of_layer[sorted(channels)].mean()
            count[origin] += 1
    return total / count.clamp_min(1)


def _checked(scores: Scores, model: nn.Module) -> Scores:
    for name, (_, outputs, _) in channels_of(model).items():
        if name in scores and tuple(scores[name].shape) != (outputs,):
            raise ValueError(
                f"the scores of {name} have shape {tuple(scores[name].shape)}, it has {outputs} channels"
            )
    return scores
