"""Joins traced channels to units that can be removed: what grouped convolutions and shuffles hold together.

A convolution with groups computes block by block. It stays one when each of its blocks loses as many channels
as every other, or when whole blocks go, with what they read and what they write. A shuffle keeps its order
when a channel goes from each of its groups at the same place.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dance_ondevice.models.channels import LayerChannels
from dance_ondevice.slimming.tracing import Side, Sides, Traced

#: Units that a group must have where blocks lose equally: with fewer, a step would take a third or more.
_LEAST_UNITS = 4

#: A channel of a traced group: (number of the group, channel of its root).
_Node = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Joined:
    """Units of channels that can each be removed.

    Attributes:
        root: Layer by whose output channels a unit is measured.
        scores: Score of each unit.
        sides: What each unit takes along.
        blocks: Grouped convolutions of which a unit takes whole blocks.
        parts: The traced groups that were joined.
    """

    root: str
    scores: tuple[float, ...]
    sides: Sides
    blocks: frozenset[str]
    parts: tuple[Traced, ...]


def join(
    traced: Sequence[Traced], scores: Sequence[Sequence[float]], grouped: Mapping[str, LayerChannels]
) -> list[Joined]:
    """Join traced groups; those that cannot lose channels by small enough steps are left out.

    Args:
        traced: Groups as traced.
        scores: Score of each channel of each group's root.
        grouped: Channels (in, out, groups) of the grouped convolutions that are not depthwise.
    """
    return _Joining(traced, scores, grouped).found()


class _Joining:
    def __init__(
        self,
        traced: Sequence[Traced],
        scores: Sequence[Sequence[float]],
        grouped: Mapping[str, LayerChannels],
    ) -> None:
        self.traced = traced
        self.scores = scores
        self.grouped = grouped
        self.parent: dict[_Node, _Node] = {}
        self.blocks: set[str] = set()
        self.broken: set[_Node] = set()
        #: Of each side of a grouped convolution, the channel of a traced group that each channel goes with.
        self.nodes: dict[tuple[str, Side], dict[int, _Node]] = defaultdict(dict)
        for number, group in enumerate(traced):
            for (layer, side), channels in group.sides.items():
                if layer in grouped:
                    for origin, own in channels.items():
                        self.nodes[layer, side].update(dict.fromkeys(own, (number, origin)))
            for column in group.columns:
                self._unite((number, origin) for origin in column)

    def found(self) -> list[Joined]:
        while sum(self._take_blocks(layer) for layer in self.grouped):
            pass  # what was tied may leave whole blocks of another layer
        classes: defaultdict[_Node, list[_Node]] = defaultdict(list)
        for number, group in enumerate(self.traced):
            for origin in range(group.width):
                classes[self._top((number, origin))].append((number, origin))
        joined = (self._units(numbers, classes.values()) for numbers in self._components(classes.values()))
        return [each for each in joined if each is not None]

    def _take_blocks(self, layer: str) -> bool:
        """Tie what a convolution's blocks read to what they write, where only whole blocks can go."""
        reads, writes = self.nodes[layer, "in"], self.nodes[layer, "out"]
        inputs, outputs, groups = self.grouped[layer]
        if layer in self.blocks or not reads:
            return False
        read: defaultdict[_Node, set[int]] = defaultdict(set)
        for channel, node in reads.items():
            read[self._top(node)].add(channel)
        size = inputs // groups
        if any(count != size for own in read.values() for count in Counter(c // size for c in own).values()):
            return False
        self.blocks.add(layer)
        for block in range(groups):
            nodes = [reads[c] for c in range(block * size, (block + 1) * size) if c in reads]
            written = range(block * outputs // groups, (block + 1) * outputs // groups)
            if not all(c in writes for c in written):
                self.broken.update(nodes)  # it writes what must stay
            self._unite([*nodes, *(writes[c] for c in written if c in writes)])
        return True

    def _components(self, classes: Iterable[Sequence[_Node]]) -> list[list[int]]:
        """Numbers of the groups that lose channels together."""
        tied: dict[int, set[int]] = {number: {number} for number in range(len(self.traced))}
        sets = [{number for number, _ in nodes} for nodes in classes]
        sets += [{n for n, _ in nodes.values()} for (layer, _), nodes in self.nodes.items()]
        for numbers in sets:
            whole = set().union(*(tied[number] for number in numbers))
            for number in whole:
                tied[number] = whole
        return [sorted(numbers) for number, numbers in tied.items() if number == min(numbers)]

    def _units(self, numbers: Sequence[int], classes: Iterable[Sequence[_Node]]) -> Joined | None:
        """The units of groups that lose channels together; None where there are none."""
        within = set(numbers)
        own = [nodes for nodes in classes if nodes[0][0] in within]
        if any(node in self.broken for nodes in own for node in nodes):
            return None
        equal = []
        for (layer, side), nodes in self.nodes.items():
            if layer not in self.blocks and any(number in within for number, _ in nodes.values()):
                width = self.grouped[layer][side == "out"]
                if len(nodes) < width:
                    return None  # another part of its channels must stay
                equal.append((nodes, width // self.grouped[layer][2]))
        units = [tuple(nodes) for nodes in own]
        if equal:
            units = self._equal_units(units, equal)
        if not units:
            return None
        sides: Sides = defaultdict(dict)
        for unit, taken in enumerate(units):
            for number, origin in taken:
                for key, channels in self.traced[number].sides.items():
                    if origin in channels:
                        sides[key].setdefault(unit, set()).update(channels[origin])
        parts = tuple(self.traced[number] for number in numbers)
        return Joined(
            root=parts[0].root,
            scores=tuple(map(self._score, units)),
            sides=dict(sides),
            blocks=frozenset(self.blocks),
            parts=parts,
        )

    def _equal_units(
        self,
        classes: Sequence[tuple[_Node, ...]],
        equal: Sequence[tuple[Mapping[int, _Node], int]],
    ) -> list[tuple[_Node, ...]]:
        """Units that take the same share of everything, and so as much from each block as from the others."""
        blocks: defaultdict[_Node, Counter[tuple[int, int]]] = defaultdict(Counter)
        for number, (nodes, size) in enumerate(equal):
            for channel, node in nodes.items():
                blocks[node][number, channel // size] += 1
        alike: defaultdict[tuple[object, ...], list[tuple[_Node, ...]]] = defaultdict(list)
        for tied in classes:
            counted: Counter[tuple[int, int]] = sum((blocks[node] for node in tied), Counter())
            alike[tuple(sorted(counted.items()))].append(tied)
        count = math.gcd(*map(len, alike.values()))
        if count < _LEAST_UNITS:
            return []
        units: list[list[_Node]] = [[] for _ in range(count)]
        for members in alike.values():
            members.sort(key=self._score)
            each = len(members) // count
            for unit, start in enumerate(range(0, len(members), each)):
                units[unit].extend(itertools.chain.from_iterable(members[start : start + each]))
        return [tuple(unit) for unit in units]

    def _score(self, nodes: Sequence[_Node]) -> float:
        return sum(self.scores[number][origin] for number, origin in nodes) / len(nodes)

    def _top(self, node: _Node) -> _Node:
        while node in self.parent:
            node = self.parent[node]
        return node

    def _unite(self, nodes: Iterable[_Node]) -> None:
        tops = {self._top(node) for node in nodes}
        if tops:
            first = min(tops)
            self.parent.update(dict.fromkeys(tops - {first}, first))
