"""Groups of channels that can only be removed together, and the importance of each channel.

Removing a channel from one layer removes it from others: from those that read it, from those that are added
to it, and from the normalisation between. torch-pruning finds these groups by tracing ("DepGraph", CVPR 2023,
arXiv 2301.12900).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from dance_ondevice.images.masks import STRIDE
from dance_ondevice.models.channels import (
    LayerChannels,
    channels_of,
    has_channels,
    is_channelwise,
    layer_channels,
    widths_built_with,
)
from dance_ondevice.slimming.importance import Scores, scale_scores

#: Side of the image that a model is traced with: small, but several pixels at the deepest resolution.
TRACE_SIDE = 4 * STRIDE

Side = Literal["in", "out"]


class NotPrunable(ValueError):  # noqa: N818 - the name says what is wrong
    """Error: channels cannot be removed from this model; it is unchanged."""


@dataclass(frozen=True)
class Member:
    """One side of one layer in a group; for a channelwise layer its "out" side represents both.

    Attributes:
        layer: Name of the module.
        side: Side of the layer, "in" or "out", whose channels belong to the group.
        channels: Channels of the layer that are removed with each channel of the group.
        lost: ``lost[k]`` is the number of the layer's channels that are removed with the k least important
            ones of the group.
    """

    layer: str
    side: Side
    channels: Mapping[int, tuple[int, ...]]
    lost: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Channels that can only be removed together.

    Attributes:
        order: Channels, least important first.
        least: Number of channels that must stay, so that every layer of the group keeps some.
        built_with: Number of channels before any slimming.
        members: Layers that lose channels with the group.
        writers: Names of the layers that compute these channels from others.
    """

    order: tuple[int, ...]
    least: int
    built_with: int
    members: tuple[Member, ...]
    writers: tuple[str, ...]


def find_groups(model: nn.Module, scores: Scores | None = None) -> tuple[Group, ...]:
    """Trace a copy of the model and collect the groups that may lose channels.

    Left out are groups that reach the model's output, and those with a layer that has no rule: grouped
    convolutions that are not depthwise, group and layer normalisation, attention, bare parameters.

    Args:
        model: Model, which stays unchanged.
        scores: Scores that the channels of a group are ordered by; None takes those of
            :func:`dance_ondevice.slimming.importance.scale_scores`.

    Raises:
        NotPrunable: The model cannot be traced, or every group was left out.
        ValueError: The number of scores differs from a layer's number of channels.
    """
    import torch_pruning  # takes seconds to import

    probe = copy_of(model).requires_grad_(True)  # a frozen layer would be missing from the trace
    names = {module: name for name, module in probe.named_modules()}
    built_with = widths_built_with(model)
    scores = scale_scores(model) if scores is None else _checked(scores, model)
    try:
        with torch.enable_grad():
            image = torch.zeros(1, 3, TRACE_SIDE, TRACE_SIDE, device=next(probe.parameters()).device)
            graph = torch_pruning.DependencyGraph().build_dependency(
                probe, example_inputs=image, forward_fn=_forward_with_auxiliary, verbose=False
            )
            last = {module for module, node in graph.module2node.items() if not node.outputs}
            read = [
                _read_group(raw, graph, names, last, built_with=built_with, scores=scores)
                for raw in graph.get_all_groups(root_module_types=[_ConvNd, nn.Linear])
            ]
    except Exception as error:  # the user's forward and torch-pruning's tracing of it may raise anything
        raise NotPrunable(
            f"cannot trace {type(model).__name__} to find which channels belong together: "
            f"{type(error).__name__}: {error}"
        ) from error
    groups = tuple(group for group in read if group is not None)
    if not groups:
        raise NotPrunable(f"{type(model).__name__} has no group of channels that could be removed")
    return groups


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


def _forward_with_auxiliary(model: nn.Module, image: Tensor) -> Any:
    """Run the training path, for its auxiliary heads, with normalisation and dropout as in inference."""
    for _, module in model.named_modules():  # a user's attribute may hide modules()
        module.training = not isinstance(module, (_NormBase, _DropoutNd))
    return model(image)


def _read_group(
    raw: Any,
    graph: Any,
    names: Mapping[nn.Module, str],
    last: set[Any],
    *,
    built_with: Mapping[str, LayerChannels],
    scores: Scores,
) -> Group | None:
    """Translate a torch-pruning group; None where it must not or cannot lose channels."""
    root = raw[0].dep.target.module
    sides: dict[tuple[str, Side], dict[int, set[int]]] = {}
    layers: dict[str, nn.Module] = {}
    for item in raw.items:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            return None  # a bare parameter: its axis of channels is unknown
        reads = has_channels(module) and graph.is_in_channel_pruning_fn(item.dep.handler)
        if module in last and (not reads or is_channelwise(module)):
            return None  # the model's output
        if module not in names or (isinstance(module, nn.PReLU) and module.num_parameters == 1):
            continue  # an operation without its own channels
        if not has_channels(module) or (layer_channels(module)[2] > 1 and not is_channelwise(module)):
            return None
        writes = is_channelwise(module) or graph.is_out_channel_pruning_fn(item.dep.handler)
        layers[names[module]] = module
        channels = sides.setdefault((names[module], "out" if writes else "in"), {})
        for channel, origin in zip(item.idxs, item.root_idxs, strict=True):
            if origin is None:
                return None  # torch-pruning could not trace the channel back
            channels.setdefault(origin, set()).add(channel)
    importance = _importance(layer_channels(root)[1], layers, sides, scores)
    order = [int(i) for i in torch.argsort(importance, stable=True)]
    last_ones = _best_of_each(order, sides)
    order = [i for i in order if i not in last_ones] + [i for i in order if i in last_ones]
    members = []
    for (name, side), channels in sides.items():
        lost = itertools.accumulate((len(channels.get(i, ())) for i in order), initial=0)
        members.append(Member(name, side, {i: tuple(sorted(c)) for i, c in channels.items()}, tuple(lost)))
    writers = tuple(name for name, side in sides if side == "out" and not is_channelwise(layers[name]))
    return Group(tuple(order), len(last_ones), built_with[names[root]][1], tuple(members), writers)


def _best_of_each(
    order: Sequence[int], sides: Mapping[tuple[str, Side], Mapping[int, Iterable[int]]]
) -> set[int]:
    """Return the channels of the group that must stay: the most important ones, so that no layer is empty.

    Usually this is one channel. Where concatenated features are normalised or filtered channel by channel,
    several layers write different channels, and each keeps its best.
    """
    best: set[int] = set()
    for channels in sorted((set(c) for c in sides.values()), key=len):
        if not channels & best:
            best.add(next(i for i in reversed(order) if i in channels))
    return best


def _importance(
    width: int,
    layers: Mapping[str, nn.Module],
    sides: Mapping[tuple[str, Side], Mapping[int, Iterable[int]]],
    scores: Scores,
) -> Tensor:
    """One score a channel: the mean of those that the group's normalisations give it.

    Without such the mean of those of the layers that write it.
    """
    known = {key for key in sides if key[0] in scores}
    norms = {key for key in known if isinstance(layers[key[0]], _NormBase)}
    writers = {key for key in known if key[1] == "out" and isinstance(layers[key[0]], (_ConvNd, nn.Linear))}
    total = torch.zeros(width, dtype=torch.float64)
    count = torch.zeros(width, dtype=torch.float64)
    for key in sorted(norms or writers):
        of_layer = scores[key[0]].double().cpu()
        for origin, channels in sides[key].items():
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
