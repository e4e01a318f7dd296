"""Averaging of models of one root that have lost different channels, without an engine."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import SMALL

from dance_ondevice.fleet.averaging import Contribution, average
from dance_ondevice.fleet.candidates import candidate, fleet_numbers
from dance_ondevice.fleet.describe import describe
from dance_ondevice.fleet.offers import About, decode_offer, encode_offer
from dance_ondevice.fleet.root import Root, RootError, decode_root, encode_root, travels
from dance_ondevice.fleet.versions import read_arrays, with_values
from dance_ondevice.models.card import ModelCard
from dance_ondevice.models.checkpoint import load, save
from dance_ondevice.models.cost import count_macs
from dance_ondevice.models.registry import build
from dance_ondevice.policies.fleet.rules import FleetRules
from dance_ondevice.slimming.slim import slim

FAMILY = "fastscnn"
SIZE = (64, 96)
CLASSES = tuple("abcde")
RULES = FleetRules()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Root, Path, Path]:
    """A root's description and its folder, and that of a board which has lost channels twice.

    tests/slimming/test_slimming_plans.py cuts every family in any order.
    """
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("fleet")
    torch.manual_seed(0)
    model = build(FAMILY, len(CLASSES), SMALL[FAMILY])
    for parameter in model.parameters():  # no two channels alike, or a wrong place would not show
        torch.nn.init.uniform_(parameter, -1.0, 1.0)
    card = ModelCard(architecture=FAMILY, arguments=dict(SMALL[FAMILY]), classes=CLASSES, macs_at=SIZE)
    save(folder / "root", model, card)
    board, card = load(folder / "root")
    for share in (0.8, 0.8):
        slim(board, target_macs=round(share * count_macs(board, *SIZE)), size=SIZE, round_to=2)
    save(folder / "board", board, replace(card, parent="root"))
    return describe(folder / "root"), folder / "root", folder / "board"


def offer_of(root: Root, folder: Path, samples: int = 10, base: int = 0) -> bytes:
    card, tensors, numbers = read_arrays(folder)
    about = About(root=card.root, base=base, classes=card.classes, samples=samples, version="v0002")
    return encode_offer(root, about, tensors, numbers)


@pytest.mark.slow
def test_a_board_that_lost_channels_still_knows_its_place(fleet: tuple[Root, Path, Path]) -> None:
    root, folder, board = fleet
    card, own, numbers = read_arrays(board)
    assert card.root == root.sha256
    _, dense, _ = read_arrays(folder)
    assert any(own[name].shape != dense[name].shape for name in own)
    found = candidate(root, dense, own, fleet_numbers(root, card.classes, numbers))
    for name, tensor in own.items():  # gathering from the root gives what slimming kept
        assert np.array_equal(found[name], tensor), name
    # Part of the way lies between the board's own values and the fleet's; what does not travel stays.
    doubled = {name: 2 * tensor for name, tensor in dense.items()}
    whole, half = (
        candidate(root, doubled, own, fleet_numbers(root, card.classes, numbers), share=share)
        for share in (1.0, 0.5)
    )
    for name, tensor in own.items():
        assert half[name].dtype == tensor.dtype, name
        assert np.allclose(half[name], (tensor + whole[name]) / 2), name
        assert np.array_equal(whole[name], (2 if travels(root, name) else 1) * tensor), name


def test_the_average_of_equals_is_the_identity(fleet: tuple[Root, Path, Path]) -> None:
    root, folder, board = fleet
    assert decode_root(encode_root(root)) == root
    _, dense, numbers = read_arrays(folder)
    shapes = {name: tensor.shape for name, tensor in dense.items()}
    # What no rounding of 16 bits changes.
    base = {name: tensor.astype(np.float16).astype(np.float32) for name, tensor in dense.items()}
    offers = [decode_offer(offer_of(root, each), root, shapes) for each in (folder, board)]
    same = [
        Contribution(board=str(index), offer=each, base=base) for index, each in enumerate(offers * 3)
    ]  # six boards: the median takes part
    assert set(numbers) == set(root.layers)
    assert all(list(each.tensors) == sorted(each.tensors) for each in offers), "sums go by this order"
    result = average(root, base, same, RULES)
    for name, before in base.items():
        assert np.allclose(result.tensors[name], before, atol=1e-6), name
    assert max(result.norms.values()) < 1e-6


def test_a_channel_learns_from_those_that_have_it(fleet: tuple[Root, Path, Path]) -> None:
    root, folder, board = fleet
    _, dense, _ = read_arrays(folder)
    shapes = {name: tensor.shape for name, tensor in dense.items()}
    base = {name: tensor.astype(np.float16).astype(np.float32) for name, tensor in dense.items()}
    slimmed, whole = (decode_offer(offer_of(root, each), root, shapes) for each in (board, folder))
    moved = replace(slimmed, tensors={name: tensor + 1.0 for name, tensor in slimmed.tensors.items()})
    still = Contribution(board="whole", offer=whole, base=base)
    rules = replace(RULES, norm_multiple=1e9)
    result = average(root, base, [Contribution(board="moved", offer=moved, base=base), still], rules)
    ones = {name: np.ones_like(tensor) for name, tensor in slimmed.tensors.items()}
    for name, before in base.items():
        change = result.tensors[name] - before
        if not travels(root, name) or name not in ones:
            assert not change.any()
            continue
        # Half of the change where both boards have the value, nothing where the slimmed one lost it.
        assert set(np.unique(np.round(change, 3))) <= {np.float32(0.0), np.float32(0.5)}, name
        assert int((change > 0.25).sum()) == ones[name].size


def test_writes_a_version_that_torch_loads(fleet: tuple[Root, Path, Path], tmp_path: Path) -> None:
    root, folder, board = fleet
    card, own, numbers = read_arrays(board)
    _, dense, _ = read_arrays(folder)
    doubled = {name: 2 * tensor for name, tensor in dense.items()}
    values = candidate(root, doubled, own, fleet_numbers(root, card.classes, numbers))
    with_values(board, tmp_path / "candidate", values, replace(card, parent="v0001"))
    model, written = load(tmp_path / "candidate")
    assert written.root == root.sha256
    before, _ = load(board)
    for name, tensor in model.state_dict().items():
        factor = 2 if travels(root, name) else 1
        assert torch.allclose(tensor, factor * before.state_dict()[name]), name
    with pytest.raises(RootError, match="was made from another"):
        describe(tmp_path / "candidate")


def test_copies_keep_their_channel_numbers(fleet: tuple[Root, Path, Path]) -> None:
    from dance_ondevice.models.channels import origin_tensors

    model, _ = load(fleet[2])
    found, expected = origin_tensors(copy.deepcopy(model)), origin_tensors(model)
    assert list(found) == list(expected)
    assert all(found[name].equal(expected[name]) for name in expected)
