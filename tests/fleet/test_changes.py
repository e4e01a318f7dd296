"""Values as changes against a release: exact on both ends, small, and refused where they do not fit."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Mapping

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from small_fleet import CLASSES, FIRST, ROOT, TENSORS, name_of, offer

from dance_ondevice.fleet.changes import MAGIC, ChangeError, arrays_of, file_limit, pack, unpack, values_of
from dance_ondevice.fleet.layers import Array
from dance_ondevice.fleet.offers import OfferError, UnknownRelease, decode_offer
from dance_ondevice.fleet.releases import (
    ReleaseError,
    apply_change,
    decode_release,
    encode_change,
    encode_release,
)
from dance_ondevice.fleet.root import travels

SHAPES = {name: tensor.shape for name, tensor in TENSORS.items()}
BASE = decode_release(FIRST, ROOT, name_of(FIRST))
RELEASES = {name_of(FIRST): BASE}
#: A packed file of changes against FIRST.
SMALL = offer(0.5, base=FIRST)


def moved(seed: int, length: float, tensors: Mapping[str, Array] = TENSORS) -> dict[str, Array]:
    dice = np.random.default_rng(seed)
    return {n: t + np.float32(length) * dice.standard_normal(t.shape, np.float32) for n, t in tensors.items()}


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(1, 5)),
    st.integers(0, 99),
    st.floats(-30, 30),
    st.floats(0, 12),
)
def test_values_come_back_to_half_a_step(shape: tuple[int, ...], seed: int, size: float, tail: float) -> None:
    """Of any size and with any outliers; what did not change comes back as it was."""
    dice = np.random.default_rng(seed)
    base = {"a": dice.standard_normal(shape).astype(np.float32)}
    change = (2.0**size * dice.standard_normal(shape) * np.exp(tail * dice.random(shape))).astype(np.float32)
    change[0] = 0
    found = values_of(arrays_of({"a": base["a"] + change}, base), base)["a"]
    real = base["a"] + change - base["a"]
    step = max(np.sqrt(np.mean(np.square(real, dtype=np.float64))) / 8, np.abs(real).max() / 127)
    by_row = np.prod(shape[1:]) >= 64
    rows = np.abs(real).reshape(len(real), -1).max(axis=1) if by_row else np.abs(real).max()
    # A row has a step of its own or one of all; sums in 32 bits round once more.
    slack = 4 * np.finfo(np.float32).eps * np.abs(base["a"] + change).max()
    assert np.abs(found - base["a"] - change).max() <= max(step, np.max(rows) / 8) * 0.51 + slack
    if by_row:
        assert np.array_equal(found[0], base["a"][0])


@pytest.mark.parametrize("tail", ["normal", "uniform", "heavy", "two values"])
def test_no_distribution_takes_much_more_than_five_bits_a_value(tail: str) -> None:
    dice = np.random.default_rng(0)
    shape = (128, 256, 3, 3)
    draw = {
        "normal": lambda: dice.standard_normal(shape),
        "uniform": lambda: dice.uniform(-1, 1, shape),
        "heavy": lambda: dice.standard_t(3, shape),
        "two values": lambda: dice.choice([-1.0, 1.0], shape),
    }[tail]
    base = {"a": np.zeros(shape, np.float32)}
    scaled = draw() * np.exp(dice.normal(0, 2, (shape[0], 1, 1, 1)))  # rows of very different length
    data = pack(safetensors.numpy.save(arrays_of({"a": scaled.astype(np.float32)}, base)))
    assert 8 * len(data) / base["a"].size < 5.15


def test_both_ends_make_the_same_release_and_rounding_is_never_lost() -> None:
    """Versions follow each other; a board that has only the first one and changes has the server's bytes."""
    tensors, server, board = dict(TENSORS), FIRST, FIRST
    for number in range(30):
        tensors = moved(number, 0.02, tensors)
        change = encode_change(ROOT, tensors, server)
        server = apply_change(ROOT, change, server)
        board = apply_change(ROOT, change, board)
        assert board == server
    found = decode_release(board, ROOT, name_of(server))
    for name, values in found.items():
        # A step of the last change, not of thirty.
        assert np.abs(values - tensors[name]).max() < 0.01, name
    assert set(found) == {name for name in TENSORS if travels(ROOT, name)}


def test_what_is_beyond_16_bits_stays_exact_enough() -> None:
    large = {**TENSORS, "head.weight": TENSORS["head.weight"] + np.float32(1e6)}
    change = encode_change(ROOT, large, FIRST)
    release = apply_change(ROOT, change, FIRST)
    found = decode_release(release, ROOT, name_of(release))["head.weight"]
    assert np.abs(found / large["head.weight"] - 1).max() < 0.01
    again = apply_change(ROOT, encode_change(ROOT, large, release), release)
    assert np.abs(decode_release(again, ROOT, name_of(again))["head.weight"] - large["head.weight"]).max() < 9


def test_an_offer_of_changes_is_the_offer_and_small() -> None:
    found = decode_offer(SMALL, ROOT, SHAPES, RELEASES.get)
    whole = decode_offer(offer(0.5), ROOT, SHAPES)
    assert found.about == msgspec.structs.replace(whole.about, against=name_of(FIRST))
    for name, values in whole.tensors.items():
        assert np.allclose(found.tensors[name], values, atol=5e-3), name
    assert len(SMALL) < len(offer(0.5))
    with pytest.raises(UnknownRelease, match="not known here"):
        decode_offer(SMALL, ROOT, SHAPES)
    # Classes may differ, so the last layer travels whole.
    assert "change/head.weight" not in safetensors.numpy.load(unpack(SMALL, 1 << 20))


def _changed(**arrays: np.ndarray | None) -> bytes:
    """``SMALL`` with arrays of the file replaced, None to leave one out."""
    raw = unpack(SMALL, 1 << 20)
    size = int.from_bytes(raw[:8], "little")
    about = msgspec.json.decode(raw[8 : 8 + size])["__metadata__"]
    found = {**safetensors.numpy.load(raw), **arrays}
    return pack(safetensors.numpy.save({k: v for k, v in found.items() if v is not None}, metadata=about))


STEM = np.ones((6, 3, 3, 3), np.int8)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (MAGIC, "cut short"),
        (MAGIC + b"nonsense", "damaged"),
        (SMALL[:-3], "cut short"),
        (SMALL + b"x", "something behind it"),
        (MAGIC + zlib.compress(bytes(50 << 20)), "unpacks to more"),
        (_changed(**{"step/stem.weight": None}), "steps of stem.weight are missing"),
        (_changed(**{"step/stem.weight": np.ones(2, np.float32)}), "steps of stem.weight are missing"),
        (_changed(**{"step/stem.weight": np.ones(1, np.float16)}), "steps of stem.weight are missing"),
        (_changed(**{"step/stem.weight": np.full(1, np.inf, np.float32)}), "not finite, or negative"),
        (_changed(**{"step/stem.weight": np.full(1, -1, np.float32)}), "not finite, or negative"),
        (_changed(**{"step/stem.weight": np.full(1, 3e38, np.float32)}), "not finite"),
        (_changed(**{"change/stem.weight": STEM.astype(np.int16)}), "does not fit the release"),
        (_changed(**{"change/stem.weight": STEM[:5]}), "does not fit the release"),
        (_changed(**{"change/stem.weight": None}), "stem.weight is missing"),
        (_changed(**{"change/other": STEM, "step/other": np.ones(1, np.float32)}), "does not fit"),
        (_changed(**{"change/norm.running_mean": STEM[:, 0, 0, 0]}), "does not fit the release"),
        (_changed(**{"change/head.weight": np.ones((3, 6, 1, 1), np.int8)}), "stands twice|does not fit"),
        (_changed(**{"model/stem.weight": np.ones((6, 3, 3, 3), np.float16)}), "stands twice"),
        (_changed(**{"origin/stem/out": np.array([0, 1, 2, 3, 4, 9], np.int16)}), "from 0 to 5"),
        (_changed(**{"origin/stem/out": None}), "does not fit|missing"),
    ],
)
def test_refuses_changes_that_do_not_fit(data: bytes, says: str) -> None:
    with pytest.raises(OfferError, match=says):
        decode_offer(data, ROOT, SHAPES, RELEASES.get)


@given(st.data())
def test_damaged_changes_raise_their_own_errors_alone(data: st.DataObject) -> None:
    change = encode_change(ROOT, moved(1, 0.1), FIRST)
    for whole, read in (
        (SMALL, lambda raw: decode_offer(raw, ROOT, SHAPES, RELEASES.get)),
        (unpack(SMALL, 1 << 20), lambda raw: decode_offer(pack(raw), ROOT, SHAPES, RELEASES.get)),
        (unpack(change, 1 << 20), lambda raw: apply_change(ROOT, pack(raw), FIRST)),
        (change, lambda raw: apply_change(ROOT, raw, FIRST)),
    ):
        damaged = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(OfferError, ReleaseError):
            read(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


def test_a_change_fits_its_release_alone() -> None:
    change = encode_change(ROOT, moved(1, 0.1), FIRST)
    half = {name: values for name, values in TENSORS.items() if name != "head.bias"}
    with pytest.raises(ReleaseError, match="does not have its tensors"):
        apply_change(ROOT, change, encode_release(ROOT, half))
    with pytest.raises(ReleaseError, match="cannot be used"):
        apply_change(ROOT, change, encode_release(ROOT, {**TENSORS, "stem.weight": np.ones(3, np.float32)}))
    with pytest.raises(ReleaseError, match="cannot be used"):
        apply_change(ROOT, FIRST[:50], FIRST)
    # Of another release of the same shapes come other bytes, whose name says so.
    other = encode_release(ROOT, moved(2, 0.1))
    assert apply_change(ROOT, change, other) != apply_change(ROOT, change, FIRST)


def test_old_servers_refuse_changes_in_words_and_old_offers_are_read() -> None:
    """As the first version of the protocol reads a file: a header's length, then JSON."""
    assert int.from_bytes(SMALL[:8], "little") > len(SMALL), "it says: not a safetensors file"
    assert decode_offer(offer(0.25), ROOT, SHAPES, RELEASES.get).about.classes == CLASSES
    assert unpack(offer(0.25), file_limit(SHAPES)) == offer(0.25)
    with pytest.raises(ChangeError):
        unpack(SMALL, 100)
