"""One broken or hostile board among eight moves the average little, whatever it hands in."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from small_fleet import ROOT, TENSORS, offer

from dance_ondevice.fleet.averaging import GROUPS, Contribution, average
from dance_ondevice.fleet.layers import Array
from dance_ondevice.fleet.offers import decode_offer
from dance_ondevice.fleet.root import travels
from dance_ondevice.policies.fleet.rules import FleetRules

RULES = FleetRules()
SHAPES = {name: tensor.shape for name, tensor in TENSORS.items()}
#: What all boards learn alike, and how far each strays from it.
LEARNT, STRAY = 0.1, 0.03
BOARDS = 8


def honest(seed: int) -> dict[str, Array]:
    dice = np.random.default_rng(seed)
    return {
        name: (tensor + LEARNT + STRAY * dice.standard_normal(tensor.shape)).astype(np.float32)
        for name, tensor in TENSORS.items()
    }


def contribution(board: str, tensors: dict[str, Array], samples: int = 10) -> Contribution:
    data = offer(0.0, tensors=tensors, samples=samples)
    return Contribution(board=board, offer=decode_offer(data, ROOT, SHAPES), base=TENSORS)


def scaled(tensors: dict[str, Array]) -> dict[str, Array]:
    return {name: 100 * tensor for name, tensor in tensors.items()}


def shuffled(tensors: dict[str, Array]) -> dict[str, Array]:
    dice = np.random.default_rng(9)
    return {name: dice.permutation(t.ravel()).reshape(t.shape).copy() for name, t in tensors.items()}


def turned(tensors: dict[str, Array]) -> dict[str, Array]:
    """As from flipped labels: the opposite of what the others learn."""
    return {name: TENSORS[name] - (tensor - TENSORS[name]) for name, tensor in tensors.items()}


@pytest.mark.parametrize("poison", [scaled, shuffled, turned])
@pytest.mark.parametrize("boards", [BOARDS, 3 * GROUPS])
def test_one_poisoned_board_moves_little(
    poison: Callable[[dict[str, Array]], dict[str, Array]], boards: int
) -> None:
    good = [contribution(f"board{seed}", honest(seed)) for seed in range(boards - 1)]
    # It claims as many samples as count at most.
    bad = contribution("bad", poison(honest(99)), samples=10**9)
    without = average(ROOT, TENSORS, good, RULES)
    found = average(ROOT, TENSORS, [*good, bad], RULES)
    for name, tensor in without.tensors.items():
        if travels(ROOT, name):
            moved = np.abs(found.tensors[name] - tensor).max()
            assert moved < 0.7 * LEARNT, (name, moved)
            assert np.median(np.abs(found.tensors[name] - tensor)) < STRAY


def test_what_is_too_long_is_shortened() -> None:
    good = [contribution(f"board{seed}", honest(seed)) for seed in range(3)]
    found = average(ROOT, TENSORS, [*good, contribution("bad", scaled(honest(99)))], RULES)
    assert found.shortened["bad"] < 0.2
    assert all(found.shortened[each.board] == 1.0 for each in good)


def test_many_boards_take_no_more_memory_than_few() -> None:
    """Beyond GROUPS boards are averaged in groups, one offer at a time."""

    class Offers:
        """Makes each offer when it is asked for, and counts how many were alive at once."""

        most = 0

        def __iter__(self) -> Iterator[Contribution]:
            made: list[weakref.ref[Contribution]] = []
            for number in range(4 * GROUPS):
                offered = contribution(f"board{number}", honest(number))
                made.append(weakref.ref(offered))
                yield offered
                del offered
                self.most = max(self.most, sum(each() is not None for each in made))

    offers = Offers()
    found = average(ROOT, TENSORS, offers, RULES)
    assert offers.most <= 2
    assert len(found.norms) == 4 * GROUPS
    for name, tensor in found.tensors.items():
        if travels(ROOT, name):
            assert np.allclose(tensor, TENSORS[name] + LEARNT, atol=STRAY)
