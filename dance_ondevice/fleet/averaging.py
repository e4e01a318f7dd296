"""The average of a fleet: each value of the root moves by what the boards that still have it have learnt.

A board hands in its weights; what counts is their difference to the fleet version that its round began with.
Of each value the changes are averaged over the boards that have its channels, however many these are: a
channel that one board alone kept learns from that board alone. Where enough boards have a channel, the
median takes the place of the mean, in which each counts once whatever samples it claims: a minority of broken
or hostile boards cannot move it far.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dance_ondevice.fleet.layers import Array, are_all, gather, places, scatter
from dance_ondevice.fleet.offers import Offer
from dance_ondevice.fleet.root import Root, layer_of, travels
from dance_ondevice.policies.fleet.rules import FleetRules, clip_factor, staleness, weight

__all__ = ["GROUPS", "Averaged", "Contribution", "average", "with_offer"]

#: Groups that boards are parted into where they are more: each takes two copies of the root.
GROUPS = 16


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One board's offer and the fleet version it began with.

    Attributes:
        board: Name of the board.
        offer: The offer.
        base: What its change is counted from, in the root's shapes: the fleet version that its round began
            with or, if it has offered since and taken no newer version, its last offer (:func:`with_offer`).
        behind: How many versions ago that was.
    """

    board: str
    offer: Offer
    base: Mapping[str, Array]
    behind: int = 0


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """A new fleet version.

    Attributes:
        tensors: float32, in the root's shapes.
        norms: Length of each board's change relative to the weights that it changes, by board.
        shortened: Factor in [0, 1] that each board's change was shortened by, by board.
    """

    tensors: dict[str, Array]
    norms: dict[str, float]
    shortened: dict[str, float]


def average(
    root: Root, now: Mapping[str, Array], contributions: Iterable[Contribution], rules: FleetRules
) -> Averaged:
    """Average the offers of boards into a new version.

    The contributions are gone through twice, one at a time: for their lengths, then for their values. Beyond
    :data:`GROUPS` boards they are parted into as many groups by their names, and the median is taken of the
    groups' means, so that memory does not grow with the number of boards.

    Args:
        root: Description of the root.
        now: Tensors of the newest fleet version.
        contributions: At most one of each board; it is iterated over twice.
        rules: The rules of the fleet.

    Raises:
        ValueError: A board stands twice, or an offer is too old.
    """
    norms: dict[str, float] = {}
    for each in contributions:
        if each.board in norms:
            raise ValueError("a board stands twice")
        if staleness(rules, each.behind) is None:
            raise ValueError(f"the offer of {each.board} began {each.behind} versions ago, which is too old")
        norms[each.board] = _norm(root, each)
    lengths = list(norms.values())
    factors = {board: clip_factor(rules, norm, lengths) for board, norm in norms.items()}
    group_of = {board: index for index, board in enumerate(norms)}
    if len(norms) > GROUPS:
        group_of = {board: zlib.crc32(board.encode()) % GROUPS for board in norms}
    sums: dict[int, _Sums] = {}
    for each in contributions:
        group = sums.setdefault(group_of[each.board], _Sums())
        stale = staleness(rules, each.behind) or 0.0
        group.add(root, now, each, weight(rules, each.offer.about.samples), stale * factors[each.board])
    held = list(sums.values())
    tensors = {
        name: _moved(name, value, held, rules.robust_from) if travels(root, name) else value
        for name, value in now.items()
    }
    return Averaged(tensors=tensors, norms=norms, shortened=factors)


def with_offer(root: Root, base: Mapping[str, Array], offer: Offer) -> dict[str, Array]:
    """Return a version with a board's offered values in the places of its channels.

    The next change of a board that goes on from its own model is counted from here: counted from the version
    itself, what the board had learnt before would be added once more with every offer.
    """
    found = dict(base)
    for name, values in offer.tensors.items():
        change = np.zeros_like(base[name])
        owner = layer_of(root, name)
        if owner is None:
            change += values - base[name]
        else:
            layer, tensor = owner
            numbers = offer.numbers[layer]
            old = gather(root.layers[layer], tensor, numbers, base[name])
            scatter(root.layers[layer], tensor, numbers, values - old, change)
        found[name] = base[name] + change
    return found


@dataclass(frozen=True)
class _Index:
    """An index of a root's tensor, and whether the board's has its first two axes the other way round."""

    places: tuple[Any, ...]
    transposed: bool = False


class _Sums:
    """The weighted changes of some boards and their weights, by value of the root."""

    def __init__(self) -> None:
        self.changes: dict[str, Array] = {}
        self.shares: dict[str, Array] = {}

    def add(
        self, root: Root, now: Mapping[str, Array], each: Contribution, share: float, factor: float
    ) -> None:
        for name in each.offer.tensors:
            if name not in self.changes:
                self.changes[name], self.shares[name] = np.zeros_like(now[name]), np.zeros_like(now[name])
            index = _index(root, name, each)
            self.changes[name][index.places] += np.float32(share * factor) * _difference(name, each, index)
            self.shares[name][index.places] += np.float32(share)

    def mean(self, name: str) -> Array:
        found: Array = self.changes[name] / np.maximum(self.shares[name], np.finfo(np.float32).tiny)
        return found


def _moved(name: str, now: Array, groups: Sequence[_Sums], robust_from: int) -> Array:
    """One tensor of the new version."""
    holders = [group for group in groups if name in group.changes]
    if not holders:
        return now
    shares = np.stack([group.shares[name] for group in holders])
    means = np.stack([group.mean(name) for group in holders])
    change = (shares * means).sum(0) / np.maximum(shares.sum(0), np.finfo(np.float32).tiny)
    many = (shares > 0).sum(0) >= robust_from
    if many.any():
        change = np.where(many, _median(means, shares > 0), change)
    moved: Array = (now + change).astype(np.float32)
    return moved


def _median(values: Array, held: NDArray[np.bool_]) -> Array:
    """The median along the first axis of the values that are held; anything where none is."""
    ordered = np.sort(np.where(held, values, np.inf), axis=0)
    count = held.sum(0)
    upper, lower = np.maximum(count // 2, 0), np.maximum((count - 1) // 2, 0)
    both = np.take_along_axis(ordered, upper[None], 0) + np.take_along_axis(ordered, lower[None], 0)
    found: Array = both[0] / 2
    return found


def _index(root: Root, name: str, each: Contribution) -> _Index:
    """Where a board's tensor lies in the root's; all of it, where the layer lost or has no channels."""
    owner = layer_of(root, name)
    if owner is None or each.base[name].ndim == 0:
        return _Index((...,))
    layer, numbers = root.layers[owner[0]], each.offer.numbers[owner[0]]
    if are_all(layer, numbers):
        return _Index((...,))
    found = places(layer, owner[1], numbers)
    return _Index(found, transposed=layer.transposed and len(found) == 2)


def _difference(name: str, each: Contribution, index: _Index) -> Array:
    """A board's change, arranged as the places of the root."""
    own = each.offer.tensors[name]
    found: Array = (np.swapaxes(own, 0, 1) if index.transposed else own) - each.base[name][index.places]
    return found


def _norm(root: Root, each: Contribution) -> float:
    """Length of a board's change, relative to the weights that it changes."""
    change = size = 0.0
    for name, own in each.offer.tensors.items():
        index = _index(root, name, each)
        difference = _difference(name, each, index)
        base = (np.swapaxes(own, 0, 1) if index.transposed else own) - difference
        change += float(np.square(difference, dtype=np.float64).sum())
        size += float(np.square(base, dtype=np.float64).sum())
    return float(np.sqrt(change / size)) if size else float(np.sqrt(change))
