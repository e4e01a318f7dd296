"""Offers of boards that nobody vouches for."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from dance_ondevice.fleet.averaging import Contribution, average, with_offer
from dance_ondevice.fleet.candidates import candidate, fleet_numbers
from dance_ondevice.fleet.changes import file_limit
from dance_ondevice.fleet.layers import Layer, PlacementError, gather, kept_shape, scatter
from dance_ondevice.fleet.offers import About, Offer, OfferError, decode_offer, encode_offer
from dance_ondevice.fleet.root import Root, RootError, decode_root
from dance_ondevice.policies.fleet.rules import FleetRules

RULES = FleetRules()
ROOT = Root(
    sha256="ab" * 32,
    classes=("sky", "road", "car"),
    layers={
        "conv": Layer(kind="mixing", channels=(4, 6, 1)),
        "norm": Layer(kind="channelwise", channels=(6, 6, 1)),
        "grouped": Layer(kind="mixing", channels=(6, 6, 2)),
        "head": Layer(kind="mixing", channels=(6, 3, 1)),
    },
    heads=("head",),
    architecture="tiny",
)
SHAPES: dict[str, tuple[int, ...]] = {
    **{"conv.weight": (6, 4, 1, 1), "norm.weight": (6,), "norm.running_mean": (6,)},
    **{"grouped.weight": (6, 3, 1, 1), "head.weight": (3, 6, 1, 1), "head.bias": (3,), "alone": (2,)},
}
KEPT = {
    "conv": (np.arange(4), np.array([0, 2, 3, 5])),
    "norm": (np.array([0, 2, 3, 5]), np.array([0, 2, 3, 5])),
    "grouped": (np.array([0, 2, 3, 5]), np.arange(6)),
    "head": (np.arange(6), np.arange(3)),
}
ABOUT = About(root=ROOT.sha256, base=0, classes=ROOT.classes, samples=7)


def replace_about(**changes: Any) -> About:
    return msgspec.structs.replace(ABOUT, **changes)


def dense(seed: int = 0) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(seed)
    return {
        name: dice.normal(size=shape).astype(np.float16).astype(np.float32) for name, shape in SHAPES.items()
    }


def slimmed(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {}
    for name, value in values.items():
        layer, _, own = name.rpartition(".")
        found[name] = gather(ROOT.layers[layer], own, KEPT[layer], value) if layer else value
    return found


def offer(values: dict[str, np.ndarray] | None = None, about: About = ABOUT) -> bytes:
    return encode_offer(ROOT, about, slimmed(dense()) if values is None else values, KEPT)


@given(st.data())
def test_gather_after_scatter_is_the_identity(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = groups * data.draw(st.integers(1, 4)), groups * data.draw(st.integers(1, 4))
    kind = data.draw(st.sampled_from(["mixing", "channelwise"]))
    if kind == "channelwise":
        inputs, groups = outputs, 1
    layer = Layer(
        kind=kind,
        channels=(inputs, outputs, groups),
        transposed=kind == "mixing" and groups == 1 and data.draw(st.booleans()),
    )
    share = data.draw(st.integers(1, inputs // groups))
    into = np.array(
        [
            group * (inputs // groups) + channel
            for group in range(groups)
            for channel in sorted(data.draw(st.permutations(range(inputs // groups)))[:share])
        ]
    )
    out = np.array(sorted(data.draw(st.permutations(range(outputs)))[: data.draw(st.integers(1, outputs))]))
    numbers = (out, out) if kind == "channelwise" else (into, out)
    mixing = (inputs, outputs) if layer.transposed else (outputs, inputs // groups)
    shape = (outputs,) if kind == "channelwise" else (*mixing, 2, 3)
    kept = kept_shape(layer, "weight", numbers, shape)
    values = np.random.default_rng(0).normal(size=kept).astype(np.float32)
    root = np.zeros(shape, np.float32)
    scatter(layer, "weight", numbers, values, root)
    assert np.array_equal(gather(layer, "weight", numbers, root), values)
    assert np.count_nonzero(root) == values.size


def test_an_offer_keeps_values_in_any_memory_order() -> None:
    values = slimmed(dense())
    data = offer({name: np.asfortranarray(value) for name, value in values.items()})
    for name, value in decode_offer(data, ROOT, SHAPES).tensors.items():
        np.testing.assert_array_equal(value, values[name])


def test_an_offer_comes_back_and_holds_no_statistics() -> None:
    found = decode_offer(offer(), ROOT, SHAPES)
    assert found.about == ABOUT
    assert set(found.tensors) == set(SHAPES) - {"norm.running_mean"}
    for name, value in slimmed(dense()).items():
        if name != "norm.running_mean":
            assert np.array_equal(found.tensors[name], value)
    wide = {**slimmed(dense()), "alone": np.array([1e6, 0.0], np.float32)}  # beyond 16 bits
    assert decode_offer(offer(wide), ROOT, SHAPES).tensors["alone"][0] == np.float32(1e6)


def _with(**changes: Any) -> bytes:
    """An offer with tensors of the file replaced, None to leave one out."""
    found = {**safetensors.numpy.load(offer()), **{k.replace("__", "/"): v for k, v in changes.items()}}
    return safetensors.numpy.save(
        {name: value for name, value in found.items() if value is not None},
        metadata={"about": msgspec.json.encode(ABOUT).decode()},
    )


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a safetensors file"),
        (b"\xff" * 64, "not a safetensors file"),
        (safetensors.numpy.save({"a": np.zeros(2, np.float32)}), "description cannot be read"),
        (offer(about=replace_about(root="cd" * 32)), "began with the model cdcd"),
        (offer(about=replace_about(samples=-1)), "negative"),
        (offer(about=replace_about(classes=("a", "b", "c"))), "none of them"),
        (offer(about=replace_about(classes=("sky", "sky", "car"))), "stand twice"),
        (offer(about=replace_about(classes=("sky", "road"))), "outputs for 2 classes"),
        (offer({**slimmed(dense()), "alone": np.array([np.nan, 0], np.float32)}), "not finite"),
        (offer({**slimmed(dense()), "alone": np.zeros(3, np.float32)}), r"has shape \[3\]"),
        (offer({**slimmed(dense()), "more": np.zeros(3, np.float32)}), "no tensor that this fleet averages"),
        (offer({k: v for k, v in slimmed(dense()).items() if k != "head.bias"}), "head.bias is missing"),
        (_with(model__alone=np.zeros(2, np.int64)), "float16 or float32"),
        (_with(**{"model__norm.running_mean": np.zeros(4, np.float32)}), "no tensor that this fleet"),
        (_with(**{"origin__conv__out": np.array([0, 2, 3, 6], np.int16)}), "from 0 to 5"),
        (_with(**{"origin__conv__out": np.array([0, 2, 2, 5], np.int16)}), "stands twice"),
        (_with(**{"origin__conv__out": np.array([0, 2, 3], np.int16)}), "its channels ask for"),
        (_with(**{"origin__conv__in": None}), "missing or of a wrong type"),
        (_with(**{"origin__grouped__in": np.array([0, 1, 2, 5], np.int16)}), "keep as many inputs"),
        (bytes(file_limit(SHAPES) + 1), "at most"),
    ],
)
def test_refuses_what_does_not_fit(data: bytes, says: str) -> None:
    with pytest.raises(OfferError, match=says):
        decode_offer(data, ROOT, SHAPES)


@given(st.data())
def test_a_damaged_offer_raises_its_own_error_alone(data: st.DataObject) -> None:
    whole = bytearray(offer())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(OfferError):
        decode_offer(bytes(whole[: data.draw(st.integers(0, len(whole)))]), ROOT, SHAPES)


def test_classes_are_matched_by_name() -> None:
    other = ("car", "bus", "sky")
    own = slimmed(dense(1))
    found = decode_offer(offer(own, replace_about(classes=other)), ROOT, SHAPES)
    assert np.array_equal(found.numbers["head"][1], [2, 0])
    assert np.array_equal(found.tensors["head.bias"], own["head.bias"][[0, 2]])
    numbers = fleet_numbers(ROOT, other, KEPT)
    mine = candidate(ROOT, dense(2), own, numbers)
    assert mine["head.bias"].tolist() == [
        dense(2)["head.bias"][2],
        own["head.bias"][1],
        dense(2)["head.bias"][0],
    ]
    assert np.array_equal(mine["norm.running_mean"], own["norm.running_mean"])
    kept = candidate(ROOT, dense(2), own, numbers, local=["head"])
    assert np.array_equal(kept["head.weight"], own["head.weight"])
    assert not np.array_equal(kept["conv.weight"], own["conv.weight"])


def _contributions(changes: list[float], samples: int = 7) -> list[Contribution]:
    base = dense()
    return [
        Contribution(
            board=f"b{index}",
            base=base,
            offer=Offer(
                about=replace_about(samples=samples),
                numbers=KEPT,
                tensors={
                    k: v + np.float32(change) for k, v in slimmed(base).items() if k != "norm.running_mean"
                },
            ),
        )
        for index, change in enumerate(changes)
    ]


@given(st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=8), st.floats(-1e4, 1e4))
def test_one_hostile_board_among_many_moves_nothing_far(honest: list[float], hostile: float) -> None:
    """From five boards on: what comes out lies between honest boards' changes."""
    result = average(ROOT, dense(), _contributions([*honest, hostile]), RULES)
    change = result.tensors["conv.weight"] - dense()["conv.weight"]
    # Shortening scales whole changes, an honest one's to no less than 0.
    assert change.max() <= max(*honest, 0) + 1e-5
    assert change.min() >= min(*honest, 0) - 1e-5


def test_what_was_offered_before_is_not_added_again() -> None:
    (one,) = _contributions([0.3])
    first = average(ROOT, dense(), [one], RULES).tensors
    again = replace(one, base=with_offer(ROOT, one.base, one.offer))
    second = average(ROOT, first, [again], RULES)
    assert second.norms["b0"] == pytest.approx(0.0, abs=1e-6)
    for name, value in first.items():
        assert second.tensors[name] == pytest.approx(value, abs=1e-6)


def test_an_old_offer_counts_less_and_a_board_once() -> None:
    (one,) = _contributions([0.3])
    old = average(ROOT, dense(), [replace(one, behind=3)], RULES)
    change = old.tensors["conv.weight"] - dense()["conv.weight"]
    assert change[[0, 2, 3, 5]] == pytest.approx(0.15, abs=1e-5)
    assert not change[[1, 4]].any()
    with pytest.raises(ValueError, match="too old"):
        average(ROOT, dense(), [replace(one, behind=11)], RULES)
    with pytest.raises(ValueError, match="twice"):
        average(ROOT, dense(), [one, one], RULES)


def test_a_root_must_fit_itself_and_a_board_its_root() -> None:
    with pytest.raises(RootError):
        decode_root(b"{}")
    with pytest.raises(PlacementError, match="no tensor other"):
        candidate(ROOT, dense(), {"other": np.zeros(2, np.float32)}, KEPT)
