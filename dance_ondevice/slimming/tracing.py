"""Traces which channels depend on each other, by torch-pruning ("DepGraph", CVPR 2023, arXiv 2301.12900).

torch-pruning takes a grouped convolution for a dense or a depthwise one, and does not see where a channel
shuffle moves a channel. A copy of the model is traced in which grouped convolutions are dense and shuffles
are operations whose permutation is told to it; :mod:`dance_ondevice.slimming.joining` then holds the groups
to what grouped convolutions and shuffles can lose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd

from dance_ondevice.images.masks import STRIDE
from dance_ondevice.models.channels import has_channels, is_channelwise, layer_channels
from dance_ondevice.slimming.walking import Walked, walk

#: Side of the image that a model is traced with: small, but several pixels at the deepest resolution.
TRACE_SIDE = 4 * STRIDE

Side = Literal["in", "out"]
#: (layer, side) -> channel of the root -> channels of that side that go with it.
Sides = dict[tuple[str, Side], dict[int, set[int]]]


@dataclass(frozen=True, eq=False)
class Traced:
    """Channels that go together, as traced: those of the root's output, and what each takes along.

    Attributes:
        root: Name of the layer whose output channels number the group.
        width: Number of its output channels.
        sides: What each of them takes along.
        layers: Layers of the group by name, of the traced copy.
        columns: Sets of the root's channels that go together: by a shuffle, or by a channel that all reach.
    """

    root: str
    width: int
    sides: Sides
    layers: Mapping[str, nn.Module]
    columns: tuple[frozenset[int], ...]


def trace(probe: nn.Module) -> list[Traced]:
    """Trace a model, which is changed: hand in a copy.

    Left out are groups that reach the model's output, and those with a layer that has no rule: group and
    layer normalisation, attention, bare parameters, transposed convolutions with groups.

    Raises:
        Exception: whatever the model's forward or torch-pruning raises.
    """
    import torch_pruning  # takes seconds to import

    shuffles = _make_traceable(probe)
    names = {module: name for name, module in probe.named_modules()}
    with torch.enable_grad():
        image = torch.zeros(1, 3, TRACE_SIDE, TRACE_SIDE, device=next(probe.parameters()).device)
        graph = torch_pruning.DependencyGraph().build_dependency(
            probe, example_inputs=image, forward_fn=_traced_outputs, verbose=False
        )
        moved = _tell_permutations(graph, shuffles)
        last = {module for module, node in graph.module2node.items() if not node.outputs}
        tied = _tied(probe)
        read = [
            _read(walked, graph, names, last, moved)
            for walked in walk(graph)
            # Layers that share a weight are one in training; cut, they would part.
            if not any(each.module in tied for each in walked.reached)
        ]
    return [group for group in read if group is not None]


class _Shuffle(nn.Module):
    """A channel shuffle as one operation, which remembers where it was traced."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.seen: list[tuple[Any, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        order = torch.arange(x.shape[1], device=x.device).view(self.groups, -1).t().flatten()
        out = x.index_select(1, order)
        self.seen.append((out.grad_fn, x.shape[1]))
        return out


def _make_traceable(probe: nn.Module) -> list[_Shuffle]:
    """Replace what torch-pruning does not understand, in place; returns the shuffles."""
    shuffles = []
    for parent in list(probe.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ChannelShuffle):
                shuffles.append(_Shuffle(child.groups))
                setattr(parent, name, shuffles[-1])
            elif isinstance(child, nn.Conv2d) and child.groups > 1 and not is_channelwise(child):
                setattr(parent, name, _dense(child))
    return shuffles


def _dense(layer: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution of the same shape without groups."""
    made = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]  # a pair, as it takes
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        dilation=layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    )
    return made.to(layer.weight.device, layer.weight.dtype)


def _tied(model: nn.Module) -> set[nn.Module]:
    """Return the layers that share a parameter with another layer."""
    layers = [module for _, module in model.named_modules()]
    owners = Counter(id(p) for module in layers for p in module._parameters.values() if p is not None)
    return {m for m in layers if any(owners[id(p)] > 1 for p in m._parameters.values() if p is not None)}


def _tell_permutations(graph: Any, shuffles: list[_Shuffle]) -> dict[Any, int]:
    """Make the graph follow channels through shuffles; returns the groups of each shuffle's operation."""
    seen = {grad: (shuffle.groups, width) for shuffle in shuffles for grad, width in shuffle.seen}
    moved = {}
    for module, node in graph.module2node.items():
        if node.grad_fn not in seen:
            continue
        groups, width = seen[node.grad_fn]
        moved[module] = groups
        forward = torch.arange(width).view(-1, groups).t().flatten().tolist()
        for before in node.inputs:
            _map(before, node, forward)
            _map(node, before, torch.argsort(torch.tensor(forward)).tolist())
    return moved


def _map(source: Any, target: Any, order: list[int]) -> None:
    """Channel i of the source is channel ``order[i]`` of the target."""

    def mapped(indices: Any) -> list[Any]:
        return [type(i)(idx=order[i.idx], root_idx=i.root_idx) for i in indices]

    for dependency in source.dependencies:
        if dependency.target is target:
            dependency.index_mapping[dependency.index_mapping[0] is not None] = mapped


def _traced_outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Return every tensor that the training path gives: whatever computes one must keep running."""

    def tensors(found: object) -> Iterator[Tensor]:
        if isinstance(found, Tensor):
            yield found
        elif isinstance(found, (Mapping, list, tuple)):
            for each in found.values() if isinstance(found, Mapping) else found:
                yield from tensors(each)

    return [found for found in tensors(forward_with_auxiliary(model, image)) if found.grad_fn is not None]


def forward_with_auxiliary(model: nn.Module, image: Tensor) -> Any:
    """Run the training path, for its auxiliary heads, with normalisation and dropout as in inference."""
    for _, module in model.named_modules():  # a user's attribute may hide modules()
        module.training = not isinstance(module, (_NormBase, _DropoutNd))
    return model(image)


def _read(
    walked: Walked,
    graph: Any,
    names: Mapping[nn.Module, str],
    last: set[Any],
    moved: Mapping[Any, int],
) -> Traced | None:
    """Translate what goes with a root; None where it must not or cannot lose channels."""
    root = walked.reached[0].module
    sides: Sides = {}
    layers: dict[str, nn.Module] = {}
    columns: defaultdict[tuple[Any, int], set[int]] = defaultdict(set)
    for each in walked.reached:
        module = each.module
        if isinstance(module, nn.Parameter):
            return None  # a bare parameter: its axis of channels is unknown
        reads = has_channels(module) and graph.is_in_channel_pruning_fn(each.handler)
        if module in last and (not reads or is_channelwise(module)):
            return None  # the model's output
        if module in moved:
            for channel, origin in each.channels.items():
                if origin is not None:
                    columns[module, channel // moved[module]].add(origin)
        if module not in names or (isinstance(module, nn.PReLU) and module.num_parameters == 1):
            continue  # an operation without its own channels
        if not has_channels(module) or (isinstance(module, _ConvTransposeNd) and module.groups > 1):
            return None
        writes = is_channelwise(module) or graph.is_out_channel_pruning_fn(each.handler)
        layers[names[module]] = module
        channels = sides.setdefault((names[module], "out" if writes else "in"), {})
        width = layer_channels(module)[writes]
        for channel, origin in each.channels.items():
            if origin is None or channel >= width:
                return None  # torch-pruning could not trace the channel back, or not to one that there is
            channels.setdefault(origin, set()).add(channel)
    return Traced(
        root=names[root],
        width=layer_channels(root)[1],
        sides=sides,
        layers=layers,
        columns=(*map(frozenset, columns.values()), *walked.ties),
    )
