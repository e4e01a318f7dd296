"""Walks a traced graph from a layer's output channels to all channels that go with them.

torch-pruning has such a walk, which ends for what it understands. Where it takes a view of other axes for one
of channels, as around some kinds of attention and around convolutions whose kernels are computed, each turn
of a loop finds more channels than the one before, without end. This walk visits each channel of each
operation once, and stops when they are more than any network has that could be slimmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.conv import _ConvNd

#: Most channels, of all operations together, that go with those of one layer. A residual stage of 1024
#: channels and 23 blocks has 120,000; this many take some 50 MB.
MOST_OF_ROOT = 1 << 18
#: Most channels that are visited in one model: some seconds.
MOST = 1 << 20


class TooEntangled(ValueError):  # noqa: N818 - the name says what is wrong
    """Error: the channels of a model go with more others than can be followed."""


@dataclass(frozen=True, eq=False)
class Reached:
    """One side of an operation, with the channels that go with those of a root.

    Attributes:
        module: The layer, bare parameter, or operation without channels of its own.
        handler: Function of torch-pruning that stands for the side.
        channels: Channel of the root that each channel goes with; None where that is not known.
    """

    module: Any
    handler: Any
    channels: dict[int, int | None]


@dataclass(frozen=True, eq=False)
class Walked:
    """All that goes with the output channels of a root.

    Attributes:
        reached: The sides of operations, the root first.
        ties: Pairs of the root's channels that meet in one channel, such as where a tensor that is
            concatenated with itself is added to it: they can only go together.
    """

    reached: list[Reached]
    ties: frozenset[frozenset[int]]


class _Index(NamedTuple):
    """A channel and the channel of the root that it goes with, as torch-pruning's mappings take them."""

    idx: int
    root_idx: int | None


def walk(graph: Any) -> Iterator[Walked]:
    """Yield all that goes with the output channels of each root (convolution or linear layer).

    A layer whose outputs were reached from one root is no other. Roots that reach too much, or an operation
    that torch-pruning has misread, are left out.

    Args:
        graph: Dependency graph of torch-pruning.

    Raises:
        TooEntangled: All roots together reach too many channels.
    """
    left = MOST
    written: set[Any] = set()
    for root in graph.module2node:
        if not isinstance(root, (_ConvNd, nn.Linear)) or root in written:
            continue
        walked, usable = _reach(graph, root)
        written.update(
            each.module for each in walked.reached if graph.is_out_channel_pruning_fn(each.handler)
        )
        left -= sum(len(each.channels) for each in walked.reached)
        if left <= 0:
            raise TooEntangled("channels go with more others than can be followed, as by computed kernels")
        if usable:
            yield walked


def _reach(graph: Any, root: nn.Module) -> tuple[Walked, bool]:
    """Return what goes with a root's output channels, and whether it is all and all was understood."""
    found: dict[tuple[Any, Any], Reached] = {}
    waiting: list[tuple[Any, Any, list[_Index]]] = []
    ties: set[frozenset[int]] = set()
    left, understood = MOST_OF_ROOT, True

    def visit(node: Any, handler: Any, indices: Iterable[_Index]) -> None:
        nonlocal left
        reached = found.get((node, handler)) or Reached(node.module, handler, {})
        fresh = []
        for index in indices:
            if not left:
                break
            if index.idx not in reached.channels:
                reached.channels[index.idx] = index.root_idx
                fresh.append(index)
                left -= 1
            # What lies beyond was visited for the first of the two, and goes with both.
            elif None not in (pair := {reached.channels[index.idx], index.root_idx}) and len(pair) > 1:
                ties.add(frozenset(each for each in pair if each is not None))
        if fresh:
            found[node, handler] = reached
            waiting.append((node, handler, fresh))

    def mapped(dependency: Any, indices: Iterable[_Index]) -> Iterator[_Index]:
        """Yield the channels behind a dependency, one index after the other: a view may multiply them."""
        nonlocal understood
        for index in indices:
            several = [index]
            for mapping in dependency.index_mapping:
                if mapping is not None:
                    several = mapping(several)
            # A layer with an input for each pixel of a channel would not fit images of any size: what is
            # viewed are other axes.
            understood = understood and len(several) <= 1
            yield from several

    pruner = graph.get_pruner_of_module(root)
    outputs = (_Index(channel, channel) for channel in range(pruner.get_out_channels(root)))
    visit(graph.module2node[root], pruner.prune_out_channels, outputs)
    while waiting and left:
        node, handler, indices = waiting.pop()
        for dependency in node.dependencies:
            if dependency.is_triggered_by(handler):
                visit(dependency.target, dependency.handler, mapped(dependency, indices))
    return Walked(list(found.values()), frozenset(ties)), understood and left > 0
